"""Which models the app offers."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from chatkit.adapters.reading import is_adapter
from chatkit.catalogue import catalogue
from chatkit.loading.folder import folder_of


def model_names() -> tuple[str, ...]:
    """Name the models that can answer now, in the order of the catalogue.

    `CHATKIT_APP_MODELS`, names with commas between them, adds others at the end, and so does
    `CHATKIT_APP_ADAPTERS`, a folder with adapter folders in it.
    """
    added = (name.strip() for name in os.environ.get("CHATKIT_APP_MODELS", "").split(","))
    return tuple(dict.fromkeys((*_pulled(), *filter(None, added), *_adapters())))


def short_name(name: str) -> str:
    """Give a model's name as it stands where there is little room: of a path, its end."""
    return Path(name).name if name.startswith(("/", "./", "~/")) else name


def labelled(names: Sequence[str]) -> dict[str, str]:
    """Give names by what stands for them in a list: the short one where that is one only."""
    short = Counter(map(short_name, names))
    return {short_name(one) if short[short_name(one)] == 1 else one: one for one in names}


def _pulled() -> list[str]:
    names: list[str] = []
    for entry in catalogue().values():
        folder = folder_of(entry)
        names += [entry.name] if folder.serves(entry.engines[0]) else []
        if "transformers" in entry.engines[1:] and folder.serves("transformers"):
            names.append(f"{entry.name}@transformers")
    return names


def _adapters() -> list[str]:
    named = os.environ.get("CHATKIT_APP_ADAPTERS")
    if not named:
        return []
    folder = Path(named).expanduser().absolute()
    return [str(one) for one in sorted(folder.glob("*")) if is_adapter(one)]
