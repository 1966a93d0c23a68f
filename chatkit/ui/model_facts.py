"""What a visitor should know of a model before choosing it."""

from pathlib import Path

from chatkit.adapters.reading import is_adapter, read_adapter
from chatkit.catalogue import Entry, find
from chatkit.errors import ChatkitError
from chatkit.hardware import memory_text, probe
from chatkit.memory import verdict
from chatkit.naming import parse_name


def model_facts(name: str) -> str:
    """Say a model's size, licence, window and whether it fits, in a line each.

    Args:
        name: as the picker has it; of a model outside of the catalogue nothing is known.

    Raises:
        ModelFileError: it is a broken adapter.
    """
    if name.startswith(("/", "./", "~/")) and is_adapter(Path(name).expanduser()):
        adapter = read_adapter(Path(name).expanduser())
        told = f"{adapter.name}: a LoRA adapter of rank {adapter.rank} on {adapter.base}"
        return f"{told}\n{model_facts(adapter.base)}"
    entry = _entry(name)
    if entry is None:
        return f"{name} is not in the catalogue; its licence and size stand where it comes from."
    found, licence = verdict(entry, probe()), entry.licence
    lines = [
        entry.title,
        f"{entry.parameters / 1e6:,.0f} million weights, {entry.context:,} tokens of window",
        f"Licence: {licence.name}; commercial use: {licence.commercial} ({licence.terms})",
        f"Memory: {memory_text(found.estimate.total)}, {found.outcome}",
    ]
    return "\n".join(lines)


def _entry(name: str) -> Entry | None:
    try:
        parsed = parse_name(name)
        return find(parsed.target) if parsed.kind == "catalogue" else None
    except ChatkitError:
        return None
