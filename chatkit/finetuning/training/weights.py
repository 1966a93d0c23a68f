"""The model that is trained: a base, and an adapter on it."""

import os
from typing import TYPE_CHECKING

from chatkit.engines.weights import best_device, load_weights
from chatkit.errors import InputError
from chatkit.finetuning.recipe import AdapterOptions, Recipe
from chatkit.loading.bases import Base

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel


def load_base(recipe: Recipe, base: Base) -> "PreTrainedModel":
    """Load the weights that a recipe tunes, ready for its adapter.

    Raises: as `chatkit.engines.weights.load_weights`.
    """
    model = load_weights(base.checkpoint, recipe.quantize, device=training_device())
    if recipe.adapter.kind == "full":
        # Optimisers lose small changes of 16-bit weights; autocast computes with 16 bits anyway.
        model = model.float()
    model.config.use_cache = False
    return model.train()


def training_device() -> str:
    """Name the device of this process; each of several has a card of its own."""
    device = best_device()
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device


def lora_configuration(
    options: AdapterOptions, base: Base, task: str = "CAUSAL_LM"
) -> "LoraConfig | None":
    """Say what PEFT puts on a base; None when all of its weights are trained.

    Args:
        options: the recipe's.
        base: on which it is put.
        task: PEFT's name of what the model does.

    Raises:
        InputError: a target is no layer of this model.
    """
    from peft import LoraConfig

    if options.kind == "full":
        return None
    known = list(base.entry.lora_targets) if base.entry else None
    if options.targets and known and (strange := set(options.targets) - set(known)):
        raise InputError(
            f"{base.name} has no layer {', '.join(sorted(strange))}; its targets are "
            f"{', '.join(known)}."
        )
    configuration = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha or 2 * options.rank,
        lora_dropout=options.dropout,
        target_modules=list(options.targets) if options.targets else known or "all-linear",
        use_rslora=options.kind == "rslora",
        use_dora=options.kind == "dora",
        task_type=task,
    )
    configuration.base_model_name_or_path = base.public_name
    return configuration
