"""A reward model: TRL's trainer on whole conversations with either answer."""

from typing import TYPE_CHECKING

from trl import RewardConfig, RewardTrainer

from chatkit.finetuning.training.job import Job
from chatkit.finetuning.training.watched import Watched
from chatkit.finetuning.training.weights import load_scorer

if TYPE_CHECKING:
    from datasets import Dataset


class PairTrainer(Watched, RewardTrainer):
    """TRL's trainer, which is given token ids."""


def reward_trainer(job: Job) -> PairTrainer:
    """Make the trainer of a job."""
    recipe, tokenizer = job.recipe, job.tokenizer
    model = load_scorer(recipe, job.base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return PairTrainer(
        model=model,
        args=RewardConfig(**job.arguments(len(job.train)), max_length=None),
        train_dataset=_whole(job.train),
        eval_dataset=_whole(job.held_out),
        processing_class=tokenizer,
        peft_config=job.lora("SEQ_CLS"),
        callbacks=list(job.callbacks),
    )


def _whole(table: "Dataset") -> "Dataset":
    """Put the question before each of its answers."""
    sides = ("chosen_ids", "rejected_ids")
    whole = table.map(lambda row: {side: row["prompt_ids"] + row[side] for side in sides})
    return whole.select_columns(list(sides))
