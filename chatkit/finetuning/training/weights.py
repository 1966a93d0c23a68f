"""The model that is trained: a base, and an adapter on it."""

import os
from typing import TYPE_CHECKING, Any

from chatkit.engines.weights import best_device, load_weights
from chatkit.errors import InputError, Unsupported
from chatkit.finetuning.recipe import AdapterOptions, Recipe
from chatkit.loading.bases import Base
from chatkit.loading.quiet import quiet_libraries

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel


def load_base(recipe: Recipe, base: Base) -> "PreTrainedModel":
    """Load the weights that a recipe tunes, ready for its adapter.

    Raises: as `chatkit.engines.weights.load_weights`.
    """
    model = load_weights(
        base.checkpoint, recipe.quantize, device=training_device(), for_training=True
    )
    if recipe.adapter.kind == "full":
        # Optimisers lose small changes of 16-bit weights; autocast computes with 16 bits anyway.
        model = model.float()
    return _ready(model)


def load_scorer(recipe: Recipe, base: Base) -> "PreTrainedModel":
    """Load a base with a head that gives one number for a whole conversation.

    Raises:
        Unsupported: it is to be quantised.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    if recipe.quantize:
        raise Unsupported("A reward model cannot be trained on quantised weights; leave it out.")
    bf16 = training_device().startswith("cuda") and torch.cuda.is_bf16_supported()
    with quiet_libraries():
        model = AutoModelForSequenceClassification.from_pretrained(
            base.checkpoint,
            num_labels=1,
            dtype=torch.bfloat16 if bf16 and recipe.adapter.kind != "full" else torch.float32,
            local_files_only=True,
        )
    return _ready(model.to(training_device()))


def _ready(model: Any) -> "PreTrainedModel":
    model.config.use_cache = False
    training: PreTrainedModel = model.train()
    return training


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
    return LoraConfig(
        r=options.rank,
        # PEFT takes any number, and says that it wants a whole one.
        lora_alpha=options.alpha or 2 * options.rank,  # type: ignore[arg-type]
        lora_dropout=options.dropout,
        target_modules=list(options.targets) if options.targets else known or "all-linear",
        use_rslora=options.kind == "rslora",
        use_dora=options.kind == "dora",
        task_type=task,
    )
