"""Which models the app offers."""

import os

from chatkit.catalogue import catalogue
from chatkit.loading.folder import folder_of


def model_names() -> tuple[str, ...]:
    """Name the models that can answer now, in the order of the catalogue.

    `CHATKIT_APP_MODELS`, names with commas between them, adds others at the end.
    """
    added = (name.strip() for name in os.environ.get("CHATKIT_APP_MODELS", "").split(","))
    return tuple(dict.fromkeys((*_pulled(), *filter(None, added))))


def _pulled() -> list[str]:
    names: list[str] = []
    for entry in catalogue().values():
        folder = folder_of(entry)
        names += [entry.name] if folder.serves(entry.engines[0]) else []
        if "transformers" in entry.engines[1:] and folder.serves("transformers"):
            names.append(f"{entry.name}@transformers")
    return names
