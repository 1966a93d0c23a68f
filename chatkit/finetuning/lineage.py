"""Where an adapter comes from: data, base, template, versions, seeds, machine."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from chatkit.errors import InputError
from chatkit.finetuning.gathering import Files
from chatkit.finetuning.recipe import Recipe
from chatkit.finetuning.report import DataReport
from chatkit.loading.bases import Base, checksum_of
from chatkit.provenance import made_with
from chatkit.template import ChatTemplate

FILE, PEOPLE = "lineage.json", "people.jsonl"
PACKAGES = ("chatkit-lab", "torch", "transformers", "peft", "trl", "accelerate", "datasets")


def lineage_of(
    recipe: Recipe, base: Base, template: ChatTemplate, files: Files, report: DataReport
) -> dict[str, Any]:
    """Describe how a run began, so that it can be repeated and traced.

    Args:
        recipe: what was asked for.
        base: what is tuned.
        template: by which messages became tokens.
        files: the tokenised rows.
        report: what became of the rows.
    """
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "method": recipe.method,
        "base": {
            "name": base.name,
            "public_name": base.public_name,
            "commit": base.commit,
            "checksum": checksum_of(base.checkpoint),
            "quantize": recipe.quantize,
        },
        "template_identity": str(template.identity),
        "data": {
            "train_sha256": _hash(files.train),
            "held_out_sha256": _hash(files.held_out),
            "conversations": len(report.people),
            **report.as_json(),
        },
        "seed": recipe.train.seed,
        **made_with(PACKAGES),
    }


def write_people(report: DataReport, folder: Path) -> None:
    """Note who is in the data, apart from the lineage, which may be shown to others."""
    with (folder / PEOPLE).open("w", encoding="utf-8") as file:
        for user, conversation in sorted(report.people):
            file.write(json.dumps({"user": user, "conversation": conversation}) + "\n")


def adapters_that_saw(
    folder: Path, *, user: str | None = None, conversation: str | None = None
) -> list[Path]:
    """Name the results below a folder whose training data had a user or a conversation.

    Args:
        folder: searched with everything in it.
        user: whose rows.
        conversation: its rows.

    Raises:
        InputError: neither is given, or there is no such folder.
    """
    if (user is None) == (conversation is None):
        raise InputError("Ask for a user or for a conversation; give one of them.")
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; check the path.")
    key, wanted = ("user", user) if user is not None else ("conversation", conversation)
    return sorted(
        path.parent for path in folder.rglob(PEOPLE) if any(p[key] == wanted for p in _people(path))
    )


def _people(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _hash(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
