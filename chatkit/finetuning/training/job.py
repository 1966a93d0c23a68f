"""What a trainer is made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatkit.finetuning.recipe import Recipe
from chatkit.finetuning.training.arguments import Steps, training_arguments
from chatkit.finetuning.training.weights import lora_configuration
from chatkit.loading.bases import Base
from chatkit.template import ChatTemplate

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerBase, TrainerCallback


@dataclass(frozen=True, slots=True)
class Job:
    """What a trainer is made of.

    Args:
        recipe: says how.
        base: what is tuned.
        template: the base's.
        tokenizer: the base's, as transformers reads it.
        train: rows to train on.
        held_out: rows to measure on.
        folder: of checkpoints.
        steps: how a step is cut into what fits into memory.
        callbacks: who watches.
    """

    recipe: Recipe
    base: Base
    template: ChatTemplate
    tokenizer: "PreTrainedTokenizerBase"
    train: "Dataset"
    held_out: "Dataset"
    folder: Path
    steps: Steps
    callbacks: "Sequence[TrainerCallback]"

    def arguments(self, rows: int) -> dict[str, Any]:
        """Give the arguments that all trainers share.

        Args:
            rows: how many rows an epoch has.
        """
        total = total_steps(self.recipe, rows)
        return training_arguments(self.recipe, self.folder, self.steps, total)

    def lora(self, task: str = "CAUSAL_LM") -> "LoraConfig | None":
        """Say what is put on the base; None when all of it is trained."""
        return lora_configuration(self.recipe.adapter, self.base, task)


def total_steps(recipe: Recipe, rows: int) -> int:
    """Count the steps of a run; the last one of an epoch may have fewer rows."""
    train = recipe.train
    return train.steps or math.ceil(train.epochs * math.ceil(rows / train.batch))
