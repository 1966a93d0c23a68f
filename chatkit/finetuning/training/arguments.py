"""The arguments that all trainers share."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from chatkit.errors import InputError, MissingExtra, Unsupported
from chatkit.finetuning.recipe import Recipe, TrainOptions


class Steps(NamedTuple):
    """How a step is cut into what fits into memory.

    Args:
        micro_batch: rows that a device computes at once.
        accumulation: how often before the weights change.
        checkpointing: whether activations are computed again.
    """

    micro_batch: int
    accumulation: int
    checkpointing: bool

    def halved(self) -> "Steps":
        """Compute half as many rows at once or fewer, so that a step keeps all of its rows."""
        rows = self.micro_batch * self.accumulation
        micro = next(size for size in range(self.micro_batch // 2, 0, -1) if rows % size == 0)
        return self._replace(micro_batch=micro, accumulation=rows // micro)


def processes() -> int:
    """Count the processes that train together, as accelerate or torchrun started them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def steps_of(train: TrainOptions, micro_batch: int, *, checkpointing: bool) -> Steps:
    """Cut a step into micro-batches.

    Args:
        train: says how many rows a step has.
        micro_batch: the most rows that fit at once.
        checkpointing: whether activations are computed again.

    Raises:
        InputError: the rows of a step cannot be shared out.
    """
    devices = processes()
    if train.batch % devices:
        raise InputError(
            f"A step of {train.batch} rows cannot be shared by {devices} processes; set "
            f"train.batch to a multiple of {devices}."
        )
    share = train.batch // devices
    wanted = micro_batch if train.micro_batch == "auto" else train.micro_batch
    micro = max(
        size for size in range(1, share + 1) if share % size == 0 and size <= max(1, wanted)
    )
    return Steps(micro, share // micro, checkpointing)


def training_arguments(recipe: Recipe, folder: Path, steps: Steps, total: int) -> dict[str, Any]:
    """Give what every trainer is told, as keywords of transformers' TrainingArguments.

    Args:
        recipe: says how.
        folder: of checkpoints.
        steps: how a step is cut.
        total: how many steps there are.

    Raises:
        Unsupported: this machine cannot compute with the precision that was asked for.
        MissingExtra: a package that figures should go to is not installed.
    """
    train = recipe.train
    _require(train.report_to)
    per_epoch = max(1, round(total / train.epochs)) if train.steps is None else total
    every = min(recipe.measure.every or per_epoch, total)
    early = recipe.measure.patience is not None
    return {
        "output_dir": str(folder),
        "max_steps": total,
        "per_device_train_batch_size": steps.micro_batch,
        "per_device_eval_batch_size": steps.micro_batch,
        "gradient_accumulation_steps": steps.accumulation,
        "gradient_checkpointing": steps.checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": train.schedule,
        "warmup_steps": round(train.warmup * total),
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.clip,
        "neftune_noise_alpha": train.neftune,
        "seed": train.seed,
        "data_seed": train.seed,
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_strategy": "steps",
        # Who stops early wants the best weights, so each measured ones are kept for a while.
        "save_steps": every if early else min(train.save_steps or per_epoch, total),
        "load_best_model_at_end": early,
        "metric_for_best_model": "eval_loss" if early else None,
        "greater_is_better": False if early else None,
        "save_total_limit": train.keep,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": list(train.report_to),
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "dataloader_num_workers": 0,
        **_precision(train.precision),
    }


def _require(packages: Sequence[str]) -> None:
    for name in packages:
        if find_spec(name) is None:
            raise MissingExtra(
                f"train.report_to names {name}, which is not installed; run `pip install {name}`, "
                "or leave it out."
            )


def _precision(wanted: str) -> dict[str, Any]:
    import torch

    from chatkit.engines.weights import best_device

    device = best_device()
    can_bf16 = device == "cuda" and torch.cuda.is_bf16_supported()
    if wanted == "auto":
        wanted = "bf16" if can_bf16 else "fp32" if device != "cuda" else "fp16"
    if wanted == "fp16" and device != "cuda":
        raise Unsupported(
            f"fp16 training needs a CUDA device and this machine trains on {device}; set "
            "train.precision to fp32 or bf16."
        )
    return {"bf16": wanted == "bf16", "fp16": wanted == "fp16", "use_cpu": device == "cpu"}
