"""How a model is named, the same everywhere.

smollm2-135m               an entry of the catalogue, on its default engine
smollm2-135m@transformers  the same on another engine
org/name                   a repository of the hub
./path, /path, ~/path      a .gguf file, a checkpoint folder or an adapter folder
tgi:URL[#model]            a server with TGI's wire; `model` names the template, when the server
                           does not name one that is known here
openai:URL/name[#model]    a server with OpenAI's wire and the model's name there
pool:servers.yaml          several servers as one
scripted:                  the engine that answers from a script
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

from chatkit.catalogue import EngineName, find
from chatkit.errors import InputError, UnknownModel

Kind = Literal["catalogue", "hub", "path", "tgi", "openai", "pool", "scripted"]


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model's name, taken apart.

    Args:
        text: the name as it was typed.
        kind: what sort of thing it names.
        target: the entry's name, the repository, the path or the address.
        engine: the engine asked for, None for the default one.
        local: the model on this machine that has a server's template; empty when not said.
    """

    text: str
    kind: Kind
    target: str
    engine: EngineName | None
    local: str = ""

    @property
    def path(self) -> Path:
        """The target as a path."""
        return Path(self.target).expanduser()


def parse_name(text: str) -> ModelName:
    """Take a model's name apart.

    Raises:
        InputError: the engine after `@` is unknown, or an address is none.
        UnknownModel: it names no entry, no repository and no existing path.
    """
    if text.startswith("scripted:"):
        return ModelName(text, "scripted", text.removeprefix("scripted:"), None)
    if text.startswith("pool:"):
        return ModelName(text, "pool", text.removeprefix("pool:"), None)
    if text.startswith(("tgi:", "openai:")):
        return _server_name(text)
    if text.startswith(("./", "../", "/", "~")) or text.endswith(".gguf"):
        return _path_name(text)
    target, _, engine = text.partition("@")
    if "/" in target:
        return ModelName(text, "hub", target, _engine(engine))
    return ModelName(text, "catalogue", find(target).name, _engine(engine))


def _server_name(text: str) -> ModelName:
    kind, _, rest = text.partition(":")
    address, _, local = rest.partition("#")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"{text!r} has no address; write {kind}:http://HOST:PORT"
            f"{'/MODEL' if kind == 'openai' else ''}."
        )
    if parts.username or parts.password:
        raise InputError(
            "A key does not belong into a model's name; put it into "
            f"CHATKIT_{kind.upper()}_API_KEY."
        )
    if kind == "openai" and not parts.path.strip("/"):
        raise InputError(f"{text!r} names no model; write openai:http://HOST:PORT/MODEL.")
    return ModelName(text, cast(Kind, kind), address.rstrip("/"), None, local)


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
