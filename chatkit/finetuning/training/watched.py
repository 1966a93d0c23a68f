"""What every trainer of ours does beside training: counts, and stops before it does harm."""

import errno
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatkit.errors import DiskFull, TrainingDiverged

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT = "checkpoint-"


class Watched:
    """Goes before a trainer of transformers in a class's bases."""

    real_tokens = 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> "Tensor":
        """Compute one micro-batch; a loss that is no number ends the run with its rows saved.

        Raises:
            TrainingDiverged: the loss is not finite.
        """
        kept = tensors_in(inputs)
        self.real_tokens += count_tokens(kept)
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        if not loss.isfinite().all():
            self._refuse(kept, float(loss))
        return loss

    def _refuse(self, inputs: dict[str, Any], loss: float) -> None:
        folder = Path(self.args.output_dir).parent  # type: ignore[attr-defined]
        step = self.state.global_step + 1  # type: ignore[attr-defined]
        path = folder / f"diverged-step-{step}.json"
        rows = {name: value.tolist() for name, value in inputs.items()}
        path.write_text(json.dumps({"step": step, "loss": str(loss), "batch": rows}), "utf-8")
        raise TrainingDiverged(
            f"The loss became {loss} in step {step}; its rows are in {path}. Lower "
            "train.learning_rate, or look at those rows; the last checkpoint is as it was."
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint; where the disk is full, the half of one goes and the last stays."""
        step = self.state.global_step  # type: ignore[attr-defined]
        folder = Path(self.args.output_dir) / f"{CHECKPOINT}{step}"  # type: ignore[attr-defined]
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        except Exception as error:
            if not is_disk_full(error):
                raise
            shutil.rmtree(folder, ignore_errors=True)
            raise DiskFull(
                f"The disk has no room for the checkpoint of step {step} in {folder.parent}; the "
                "one before it is as it was. Make room, and go on with --resume."
            ) from error


def is_disk_full(error: BaseException) -> bool:
    """Tell whether a library failed since the disk is full; some hide the number in a text."""
    texts = ("No space left", "os error 28", "file write failed", "unexpected pos")
    number = error.errno if isinstance(error, OSError) else None
    return number == errno.ENOSPC or any(text in str(error) for text in texts)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device or the machine had no memory for a tensor."""
    import torch

    texts = ("can't allocate memory", "not enough memory", "CUDA out of memory")
    told = isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or told


def tensors_in(inputs: Any) -> "dict[str, Tensor]":
    """Give the tensors of a batch; trainers that draw answers get rows without any yet."""
    import torch

    if not isinstance(inputs, dict):
        return {}
    return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}


def count_tokens(inputs: "dict[str, Tensor]") -> int:
    """Count the tokens of a batch that are no padding."""
    masks = [value for name, value in inputs.items() if name.endswith("attention_mask")]
    if masks:
        return sum(int(mask.sum()) for mask in masks)
    return sum(v.numel() for name, v in inputs.items() if name.endswith("input_ids"))
