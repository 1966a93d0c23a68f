"""Pulling: fetch, verify, write what the engine needs, and only then declare it complete."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from chatkit.catalogue import EngineName, Entry
from chatkit.errors import InputError, ModelFileError
from chatkit.loading.checkpoint import complete_tokenizer
from chatkit.loading.disk import writing
from chatkit.loading.folder import Fetched, ModelFolder, folder_named, folder_of
from chatkit.loading.materialise import materialise
from chatkit.loading.progress import Progress, Silent
from chatkit.loading.sources import fetch_any, fetch_checkpoint, sources_for

if TYPE_CHECKING:
    from filelock import FileLock

_REFERENCE = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def pull(
    entry: Entry, *, engine: EngineName | None = None, progress: Progress | None = None
) -> ModelFolder:
    """Bring a catalogue model onto this machine; done at once when it is there already.

    Two processes that pull the same model do it once: the second waits and finds it done. An
    interrupted pull goes on where it stopped when it is called again.

    Args:
        entry: the model.
        engine: which engine is going to run it, the entry's default one when None.
        progress: told about each step; nobody when None.

    Raises:
        Unsupported: the entry has nothing for this engine.
        GatedModel: the publisher asks for a token or an agreement.
        HubUnreachable: no source answered, or `CHATKIT_OFFLINE` forbids the network.
        ChecksumMismatch: what arrived was not what was promised; it is removed.
        DiskFull: there is no room; no half-written model is left.
        ModelUnavailable: a source does not hold the model, or the disk cannot be written.
    """
    engine, progress = engine or entry.engines[0], progress or Silent()
    sources, folder = sources_for(entry, engine), folder_of(entry)
    if folder.serves(engine):
        return folder
    with _alone(entry.name, folder, progress):
        if folder.serves(engine):
            progress.say(f"{entry.name} is complete: another process has pulled it.")
            return folder
        with _staging(folder):
            fetched = fetch_any(sources, folder, progress)
            with writing(folder.path):
                materialise(entry, engine, folder, progress)
            _declare(entry, engine, folder, fetched)
    return folder


def pull_reference(name: str, *, progress: Progress | None = None) -> ModelFolder:
    """Bring a checkpoint of the hub onto this machine, without a catalogue entry.

    Args:
        name: `org/name`.
        progress: told about each step; nobody when None.

    Raises:
        InputError: the name is not of that form.
        ChatkitError: the same as `pull` raises.
    """
    if not _REFERENCE.fullmatch(name):
        raise InputError(f"{name!r} names no repository of the hub; write it as org/name.")
    folder, progress = folder_named(name), progress or Silent()
    if folder.serves("transformers"):
        return folder
    with _alone(name, folder, progress):
        if folder.serves("transformers"):
            progress.say(f"{name} is complete: another process has pulled it.")
            return folder
        with _staging(folder):
            fetched = fetch_checkpoint(name, "main", folder, progress)
            with writing(folder.path):
                complete_tokenizer(folder.tokenizer)
            folder.declare(name, [fetched], gguf=None)
    return folder


def _declare(entry: Entry, engine: EngineName, folder: ModelFolder, fetched: Fetched) -> None:
    """Write the manifest, keeping what an earlier pull for another engine recorded."""
    earlier = folder.manifest
    kept = [s for s in earlier.sources if s.kind != fetched.kind] if earlier else []
    gguf = folder.path / earlier.gguf if earlier and earlier.gguf else None
    if fetched.kind != "hub" and fetched.precision:
        gguf = folder.gguf_of(entry.run_precision or fetched.precision)
    folder.declare(entry.name, [*kept, fetched], gguf)
    if not folder.serves(engine):
        raise ModelFileError(
            f"{folder.path} holds nothing that {engine} can run although the pull ended; delete "
            "the folder and pull again."
        )


@contextmanager
def _alone(name: str, folder: ModelFolder, progress: Progress) -> Iterator[None]:
    """Hold the model's lock, waiting for another process that has it."""
    from filelock import FileLock

    with writing(folder.path):
        folder.path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.path.with_name(f"{folder.path.name}.lock"))
    try:
        if not _acquire(lock, seconds=0):
            progress.say(f"Another process is pulling {name}; waiting until it has finished.")
            _acquire(lock, seconds=-1)
        yield
    finally:
        lock.release()


@contextmanager
def _staging(folder: ModelFolder) -> Iterator[None]:
    """Keep a place for unfinished files: it goes when all went well, or nothing had arrived."""
    with writing(folder.staging):
        folder.staging.mkdir(parents=True, exist_ok=True)
    try:
        yield
        shutil.rmtree(folder.staging, ignore_errors=True)
    finally:
        _remove_empty(folder.staging, folder.path)


def _acquire(lock: "FileLock", seconds: float) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    except OSError as error:
        with writing(Path(lock.lock_file)):
            raise error
    return True


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
