"""How a model is named, the same everywhere.

smollm2-135m               an entry of the catalogue, on its default engine
smollm2-135m@transformers  the same on another engine
org/name                   a repository of the hub
./path, /path, ~/path      a .gguf file, a checkpoint folder or an adapter folder
scripted:                  the engine that answers from a script
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from chatkit.catalogue import EngineName, find
from chatkit.errors import InputError, UnknownModel

Kind = Literal["catalogue", "hub", "path", "scripted"]


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model's name, taken apart.

    Args:
        text: the name as it was typed.
        kind: what sort of thing it names.
        target: the entry's name, the repository or the path.
        engine: the engine asked for, None for the default one.
    """

    text: str
    kind: Kind
    target: str
    engine: EngineName | None

    @property
    def path(self) -> Path:
        """The target as a path."""
        return Path(self.target).expanduser()


def parse_name(text: str) -> ModelName:
    """Take a model's name apart.

    Raises:
        InputError: the engine after `@` is unknown.
        UnknownModel: it names no entry, no repository and no existing path.
    """
    if text.startswith("scripted:"):
        return ModelName(text, "scripted", text.removeprefix("scripted:"), None)
    if text.startswith(("./", "../", "/", "~")) or text.endswith(".gguf"):
        return _path_name(text)
    target, _, engine = text.partition("@")
    if "/" in target:
        return ModelName(text, "hub", target, _engine(engine))
    return ModelName(text, "catalogue", find(target).name, _engine(engine))


def _path_name(text: str) -> ModelName:
    head, separator, tail = text.rpartition("@")
    known = separator and tail in get_args(EngineName)
    target, engine = (head, tail) if known else (text, "")
    if not Path(target).expanduser().exists():
        raise UnknownModel(f"There is no file or folder {target}; check the path.")
    return ModelName(text, "path", target, _engine(engine))


def _engine(text: str) -> EngineName | None:
    if text and text not in get_args(EngineName):
        raise InputError(f"There is no engine {text!r}; use {' or '.join(get_args(EngineName))}.")
    return cast(EngineName, text) if text else None
