"""The checkpoint that a model's name means: what transformers loads, and what adapters stand on."""

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from chatkit.catalogue import Entry, entry_of, find
from chatkit.errors import ModelFileError, Unsupported
from chatkit.loading.folder import require_pulled, require_reference
from chatkit.loading.pull import pull
from chatkit.naming import parse_name
from chatkit.template import ChatTemplate
from chatkit.tokenizer import read_tokenizer

_SAMPLE_BYTES = 1 << 20


class Base(NamedTuple):
    """A checkpoint on this machine.

    Args:
        name: what it was asked for by.
        checkpoint: the folder with `config.json` and the weights.
        tokenizer: the folder with the tokenizer and its template.
        entry: its row in the catalogue, None where it has none.
        commit: the hub's commit that it was pulled from, None where it is from elsewhere.
    """

    name: str
    checkpoint: Path
    tokenizer: Path
    entry: Entry | None
    commit: str | None = None

    @property
    def public_name(self) -> str:
        """The name that other tools know it by: its hub repository where it has one."""
        if self.entry:
            for source in self.entry.sources:
                if source.kind == "hub" and source.repo:
                    return source.repo
        return self.name

    @property
    def template(self) -> ChatTemplate:
        """The template by which it is trained, which is the one that it is served with."""
        source = self.entry.template.jinja if self.entry else None
        return ChatTemplate(read_tokenizer(self.tokenizer), source)


def checksum_of(checkpoint: Path) -> str:
    """Sign the weights of a checkpoint: SHA-256 of each file's size, first and last mebibyte.

    Weights of another training differ everywhere, and reading all of 70 billion of them would
    take minutes.
    """
    digest = sha256()
    for file in sorted(checkpoint.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_SAMPLE_BYTES))
            stream.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]


def find_base(name: str) -> Base:
    """Find the checkpoint that a name means; it is written now where only a GGUF was pulled.

    Args:
        name: an entry of the catalogue, a hub repository, or a folder.

    Raises:
        UnknownModel: nothing has this name.
        NotPulled: its files are not on this machine.
        Unsupported: it is the name of a server or of a GGUF file.
        ModelFileError: the folder holds no checkpoint.
    """
    parsed = parse_name(name)
    match parsed.kind:
        case "catalogue":
            return _of_entry(name, find(parsed.target))
        case "hub":
            if known := entry_of(parsed.target):
                return _of_entry(name, known)
            folder = require_reference(parsed.target)
            commit = folder.manifest.sources[0].commit if folder.manifest else None
            return Base(name, folder.checkpoint, folder.tokenizer, None, commit)
        case "path" if parsed.path.is_dir():
            path = parsed.path.resolve()
            if not (path / "config.json").exists():
                raise ModelFileError(
                    f"{path} holds no checkpoint (config.json); give the folder of one."
                )
            return Base(name, path, path, None)
    raise Unsupported(
        f"{name} is no checkpoint that weights can be read from; name a pulled model or a folder."
    )


def _of_entry(name: str, entry: Entry) -> Base:
    if any(source.kind == "hub" for source in entry.sources):
        folder = require_pulled(entry, "transformers")
    else:
        require_pulled(entry, entry.engines[0])
        folder = pull(entry, engine="transformers")
    commit = folder.manifest.sources[0].commit if folder.manifest else None
    return Base(name, folder.checkpoint, folder.tokenizer, entry, commit)
