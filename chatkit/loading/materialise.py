"""Writes what the engines need beside the files that a source gave, once, when it is pulled."""

import os
import shutil
from pathlib import Path

from chatkit.catalogue import EngineName, Entry
from chatkit.errors import ModelFileError
from chatkit.loading.checkpoint import complete_tokenizer, write_checkpoint
from chatkit.loading.folder import ModelFolder
from chatkit.loading.gguf import metadata, open_gguf, write_f16
from chatkit.loading.gguf_tokenizer import PROBES, write_tokenizer
from chatkit.loading.llamacpp_library import llamacpp_tokenizer
from chatkit.loading.progress import Progress
from chatkit.tokenizer import read_tokenizer


def materialise(entry: Entry, engine: EngineName, folder: ModelFolder, progress: Progress) -> None:
    """Write the tokenizer, the half-precision GGUF and the checkpoint that an engine needs.

    Each is written under the staging folder and moved into place whole; what is there already
    is kept.

    Args:
        entry: the model.
        engine: which engine is going to run it.
        folder: its files, as they arrived.
        progress: told about each step.

    Raises:
        ModelFileError: a file is corrupt, or its tokenizer cannot be rebuilt faithfully.
    """
    source = _arrived_gguf(entry, folder)
    has_checkpoint = any(one.kind == "hub" for one in entry.sources)
    if source is None or (engine == "transformers" and has_checkpoint):
        complete_tokenizer(folder.tokenizer)
        return
    materialise_tokenizer(source, folder.tokenizer, folder.staging, progress)
    running = source
    if entry.run_precision:
        running = folder.gguf_of(entry.run_precision)
        _write_half_precision(source, running, folder.staging, progress)
    if engine == "transformers" and not folder.checkpoint.exists():
        progress.say("Writing the checkpoint for transformers.")
        draft = _fresh(folder.staging / "checkpoint")
        write_checkpoint(running, folder.tokenizer, draft)
        os.replace(draft, folder.checkpoint)


def materialise_tokenizer(gguf: Path, target: Path, staging: Path, progress: Progress) -> None:
    """Write a GGUF's tokenizer files, after llama.cpp has agreed with them on probe strings.

    Args:
        gguf: the model file.
        target: the folder to make.
        staging: an existing folder on the same disk.
        progress: told about the step.

    Raises:
        ModelFileError: the tokenizer cannot be rebuilt, or gives other tokens than llama.cpp.
    """
    if target.exists():
        return
    progress.say("Writing the tokenizer and holding it against llama.cpp's.")
    draft = _fresh(staging / "tokenizer")
    with open_gguf(gguf) as reader:
        write_tokenizer(metadata(reader), draft)
    _hold_against_llamacpp(gguf, draft)
    os.replace(draft, target)


def _arrived_gguf(entry: Entry, folder: ModelFolder) -> Path | None:
    """Find the GGUF that a source gave, None when the model came as a checkpoint."""
    candidates = (folder.gguf_of(s.precision) for s in entry.sources if s.kind != "hub")
    return next((path for path in candidates if path.exists()), None)


def _write_half_precision(source: Path, target: Path, staging: Path, progress: Progress) -> None:
    if target.exists():
        return
    progress.say("Writing the 16-bit weights.")
    draft = staging / target.name
    write_f16(source, draft)
    os.replace(draft, target)


def _hold_against_llamacpp(gguf: Path, folder: Path) -> None:
    ours = read_tokenizer(folder)
    with llamacpp_tokenizer(gguf) as theirs:
        for probe in PROBES:
            if [token.id for token in ours.encode(probe)] != theirs.encode(probe):
                raise ModelFileError(
                    f"The tokenizer rebuilt from {gguf.name} parts from llama.cpp's at {probe!r}; "
                    "pull the model's hub checkpoint instead."
                )


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
