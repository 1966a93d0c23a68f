"""What the tests about pulling share: small models, people who watch or interrupt."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from local_hub import Gate

from chatkit.catalogue import EngineName, Entry, GgufSource, HubSource, Source, find
from chatkit.loading.folder import ModelFolder
from chatkit.loading.progress import Progress

CHECKPOINT = {
    "config.json": b'{"model_type": "llama"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b'{"eos_token": "<|im_end|>"}',
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": os.urandom(400_000),
}
GGUF = b"GGUF" + os.urandom(200_000)
HUB = HubSource(kind="hub", repo="org/name", precision="bf16")
HUB_GGUF = GgufSource(kind="gguf", repo="org/gguf", file="name-Q8_0.gguf", precision="q8_0")


@dataclass
class Recorder:
    """A progress that remembers what was said."""

    said: list[str] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def advance(self, file: str, done: int, total: int | None) -> None: ...


@dataclass
class InterruptingAt:
    """A person who presses Ctrl-C while the server holds an answer."""

    gate: Gate

    def say(self, sentence: str) -> None: ...

    def advance(self, file: str, done: int, total: int | None) -> None:
        if self.gate.reached.is_set():
            raise KeyboardInterrupt


def write_nothing(
    entry: Entry, engine: EngineName, folder: ModelFolder, progress: Progress
) -> None:
    """Stand in for what is written from a GGUF, which other tests are about."""


def write_a_tokenizer(
    entry: Entry, engine: EngineName, folder: ModelFolder, progress: Progress
) -> None:
    """Stand in for the tokenizer that is written from a GGUF, and kept when it is there."""
    if not folder.tokenizer.exists():
        folder.tokenizer.mkdir()
        (folder.tokenizer / "tokenizer.json").write_text("from the GGUF")


def entry_with(*sources: Source) -> Entry:
    """A catalogue entry that differs from the default model by its sources."""
    return find("smollm2-135m").model_copy(
        update={"name": "tested", "sources": sources, "run_precision": None}
    )


def files_in(folder: ModelFolder) -> set[str]:
    """Every file of a folder, hidden ones included."""
    found = folder.path.rglob("*")
    return {path.relative_to(folder.path).as_posix() for path in found if path.is_file()}


@dataclass
class InterruptedAfter:
    """A person who presses Ctrl-C once so many bytes of the weights are here."""

    bytes: int

    def say(self, sentence: str) -> None: ...

    def advance(self, file: str, done: int, total: int | None) -> None:
        if file == "model.safetensors" and done >= self.bytes:
            raise KeyboardInterrupt


def folder_of_reference() -> ModelFolder:
    """Where org/name lies."""
    return ModelFolder(Path(os.environ["CHATKIT_HOME"]) / "models" / "org--name")
