"""Which trainer does what."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chatkit.finetuning.training.job import Job

if TYPE_CHECKING:
    from transformers import Trainer

# Each is imported when it is used: TRL's modules take seconds.
_TRAINERS = {
    "sft": "sft.supervised_trainer",
    "dpo": "dpo.preference_trainer",
    "orpo": "orpo.odds_ratio_trainer",
    "kto": "kto.thumb_trainer",
    "reward": "reward.reward_trainer",
    "grpo": "reinforcement.reinforcement_trainer",
    "distill": "distillation.distilling_trainer",
}


def trainer_of(job: Job) -> "Trainer":
    """Make the trainer that a job's recipe asks for."""
    module, _, name = _TRAINERS[job.recipe.method].partition(".")
    make: Any = vars(import_module(f"chatkit.finetuning.training.{module}"))[name]
    trainer: Trainer = make(job)
    return trainer
