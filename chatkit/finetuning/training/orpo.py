"""Odds ratio preference optimisation: TRL's trainer on our token ids."""

from typing import Any

from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from chatkit.finetuning.masking import IGNORED
from chatkit.finetuning.training.job import Job
from chatkit.finetuning.training.watched import Watched
from chatkit.finetuning.training.weights import load_base


class OddsRatioTrainer(Watched, ORPOTrainer):
    """TRL's trainer, which is given token ids."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """Name the ids of a row as the collator of this trainer does."""
        prompt = feature["prompt_ids"]
        row = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
        for side in ("chosen", "rejected"):
            answer = feature[f"{side}_ids"]
            row[f"{side}_input_ids"] = prompt + answer
            row[f"{side}_attention_mask"] = [1] * (len(prompt) + len(answer))
            row[f"{side}_labels"] = [IGNORED] * len(prompt) + answer
        return row


def odds_ratio_trainer(job: Job) -> OddsRatioTrainer:
    """Make the trainer of a job."""
    recipe = job.recipe
    arguments = ORPOConfig(
        **job.arguments(len(job.train)),
        beta=recipe.preference.beta,
        max_length=recipe.data.longest,
        max_completion_length=recipe.data.longest,
        disable_dropout=recipe.adapter.dropout == 0,
    )
    return OddsRatioTrainer(
        model=load_base(recipe, job.base),
        args=arguments,
        train_dataset=job.train,
        eval_dataset=job.held_out,
        processing_class=job.tokenizer,
        peft_config=job.lora(),
        callbacks=list(job.callbacks),
    )
