"""LoRA adapters as PEFT saves them: what a folder says about itself."""

import json
from dataclasses import dataclass
from pathlib import Path

from chatkit.errors import ModelFileError


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter folder.

    Args:
        folder: where its files are.
        base: the name of the model that it was trained on, as the folder says it.
        rank: the rank of its matrices.
        targets: the modules that it changes.
    """

    folder: Path
    base: str
    rank: int
    targets: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called where nobody gave it a name."""
        return self.folder.name


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds a PEFT adapter."""
    return (folder / "adapter_config.json").exists()


def read_adapter(folder: Path) -> Adapter:
    """Read what an adapter folder says about itself.

    Raises:
        ModelFileError: a file is missing or broken, or it is not a LoRA adapter.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        kind, base = config["peft_type"], config["base_model_name_or_path"]
        rank, targets = int(config["r"]), config["target_modules"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"The adapter configuration in {folder} cannot be read ({error}); save the adapter "
            "again."
        ) from None
    if kind != "LORA" or not base:
        raise ModelFileError(
            f"{folder} holds a {kind} adapter of base {base!r}; only LoRA adapters that name "
            "their base can be opened."
        )
    if not (folder / "adapter_model.safetensors").exists():
        raise ModelFileError(
            f"The adapter in {folder} has no adapter_model.safetensors; save it again."
        )
    return Adapter(folder, base, rank, (targets,) if isinstance(targets, str) else tuple(targets))
