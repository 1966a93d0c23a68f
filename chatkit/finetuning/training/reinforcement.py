"""Reinforcement learning with a reward that a program or a reward model computes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from chatkit.adapters.reading import read_adapter
from chatkit.errors import InputError, ModelFileError
from chatkit.finetuning.output import read_output_recipe
from chatkit.finetuning.training.job import Job
from chatkit.finetuning.training.watched import Watched
from chatkit.finetuning.training.weights import load_base, load_scorer
from chatkit.loading.bases import find_base
from chatkit.scorers import scorer_of

if TYPE_CHECKING:
    from datasets import Dataset

Reward = Callable[..., list[float]]


class _OwnPrompts(Watched):
    """Gives TRL the ids of our template in place of a prompt's text."""

    prompts: dict[str, list[int]]

    def _tokenize_prompts(
        self, prompts: Sequence[str]
    ) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self.prompts[prompt] for prompt in prompts], None, {}


class GroupTrainer(_OwnPrompts, GRPOTrainer):
    """TRL's GRPO with our prompts."""


class LeaveOneOutTrainer(_OwnPrompts, RLOOTrainer):
    """TRL's RLOO with our prompts."""


def reinforcement_trainer(job: Job) -> GroupTrainer | LeaveOneOutTrainer:
    """Make the trainer of a job."""
    recipe, wanted = job.recipe, job.recipe.reinforce
    assert wanted is not None
    kinds = {"grpo": (GroupTrainer, GRPOConfig), "rloo": (LeaveOneOutTrainer, RLOOConfig)}
    make, configure = kinds[wanted.algorithm]
    # An epoch has each question once, with all of its answers.
    arguments = {
        **job.arguments(len(job.train) * wanted.answers),
        "per_device_eval_batch_size": wanted.answers,
        "num_generations": wanted.answers,
        "max_completion_length": wanted.answer_tokens,
        "temperature": wanted.temperature,
        "beta": wanted.beta,
    }
    trainer: Any = make(
        model=load_base(recipe, job.base),
        reward_funcs=reward_of(job),
        args=configure(**arguments),
        train_dataset=_named(job.train),
        eval_dataset=_named(job.held_out),
        processing_class=job.tokenizer,
        peft_config=job.lora(),
        callbacks=list(job.callbacks),
    )
    trainer.prompts = {
        row["origin"]: row["prompt_ids"] for table in (job.train, job.held_out) for row in table
    }
    made: GroupTrainer | LeaveOneOutTrainer = trainer
    return made


def reward_of(job: Job) -> Reward:
    """Make the function that TRL asks for the reward of answers."""
    wanted = job.recipe.reinforce
    assert wanted is not None
    if wanted.reward_model is not None:
        return _of_model(job, Path(wanted.reward_model))
    scorer = scorer_of(wanted.reward or {})

    def reward(
        completions: list[str], question: list[str], reference: list[str], **more: Any
    ) -> list[float]:
        asked = zip(question, completions, reference, strict=True)
        return [scorer(one, said, wanted or None).value for one, said, wanted in asked]

    return reward


def _of_model(job: Job, folder: Path) -> Reward:
    """Score whole conversations with a reward model, which reads the same tokens as the policy.

    Raises:
        InputError: the folder holds another kind of result.
        ModelFileError: it was trained with another template.
    """
    import torch
    from peft import PeftModel

    made = read_output_recipe(folder)
    if made.method != "reward":
        raise InputError(f"{folder} is the result of {made.method}; give one of reward.")
    identity = read_adapter(folder).template_identity
    if identity != str(job.template.identity):
        raise ModelFileError(
            f"The reward model in {folder} was trained with the template {identity}, and the "
            f"policy has {job.template.identity}; train it on the same base."
        )
    judge = PeftModel.from_pretrained(load_scorer(made, find_base(made.base)), folder).eval()
    pad = job.tokenizer.pad_token_id or job.tokenizer.eos_token_id
    judge.config.pad_token_id = pad

    def reward(prompts: list[str], completion_ids: list[list[int]], **more: Any) -> list[float]:
        whole = [[*asked[name], *ids] for name, ids in zip(prompts, completion_ids, strict=True)]
        width = max(map(len, whole))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in whole])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in whole])
        with torch.no_grad():
            scores = judge(input_ids=ids.to(judge.device), attention_mask=mask.to(judge.device))
        return [float(score) for score in scores.logits[:, 0]]

    asked = {row["origin"]: row["prompt_ids"] for t in (job.train, job.held_out) for row in t}
    return reward


def _named(table: "Dataset") -> "Dataset":
    """Let a row's origin stand for its prompt, and keep what rewards are computed from."""
    return table.rename_column("origin", "prompt").select_columns(
        ["prompt", "question", "reference"]
    )
