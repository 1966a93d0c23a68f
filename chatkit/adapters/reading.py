"""LoRA adapters as PEFT saves them: what a folder says about itself."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatkit.errors import ModelFileError


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter folder.

    Args:
        folder: where its files are.
        base: the name of the model that it was trained on, as the folder says it.
        rank: the rank of its matrices.
        targets: the modules that it changes.
        template_identity: of the template that it was trained with; None where nobody wrote it.
        checksum: of the base's weights; None where nobody wrote it.
        is_reward: whether it scores conversations instead of going on with them.
    """

    folder: Path
    base: str
    rank: int
    targets: tuple[str, ...]
    template_identity: str | None = None
    checksum: str | None = None
    is_reward: bool = False

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
    lineage = _lineage(folder)
    return Adapter(
        folder,
        base,
        rank,
        (targets,) if isinstance(targets, str) else tuple(targets),
        lineage.get("template_identity"),
        lineage.get("base", {}).get("checksum"),
        config.get("task_type") == "SEQ_CLS",
    )


def check_adapter(
    adapter: Adapter, name: str, template_identity: str, checksum: str | None = None
) -> None:
    """Refuse an adapter on a base, or with a template, that it was not trained with.

    Args:
        adapter: as its folder describes it.
        name: of the model that is to wear it.
        template_identity: of that model's template.
        checksum: of that model's weights; None where they cannot be compared.

    Raises:
        ModelFileError: it was trained with others, or it is a reward model.
    """
    if adapter.is_reward:
        raise ModelFileError(
            f"{adapter.folder} is a reward model, which scores conversations and cannot answer; "
            "name it as reinforce.reward_model in a recipe."
        )
    if adapter.template_identity not in (None, template_identity):
        raise ModelFileError(
            f"The adapter {adapter.folder} was trained with the template "
            f"{adapter.template_identity} of {adapter.base}, and {name} has {template_identity}; "
            "load it on its own base."
        )
    if checksum is not None and adapter.checksum not in (None, checksum):
        raise ModelFileError(
            f"The adapter {adapter.folder} was trained on {adapter.base} with the checksum "
            f"{adapter.checksum}, and {name} has {checksum}; load it on its own base."
        )


def _lineage(folder: Path) -> dict[str, Any]:
    """Read what `finetune` wrote beside an adapter; empty for others' adapters."""
    path = folder / "lineage.json"
    if not path.exists():
        return {}
    try:
        lineage: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); train the adapter again.") from None
    return lineage
