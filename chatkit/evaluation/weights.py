"""Which weights a model's name stands for, so that a run tells what it measured."""

from hashlib import sha256
from pathlib import Path

from chatkit.adapters.reading import is_adapter, read_adapter
from chatkit.errors import NotPulled
from chatkit.loading.bases import checksum_of
from chatkit.loading.download import sha256_of
from chatkit.loading.folder import Manifest, folder_named
from chatkit.naming import parse_name

_SUFFIXES = {"llamacpp": (".gguf",), "transformers": (".safetensors", ".bin")}


def weights_of(model: str) -> str | None:
    """Sign a model's weights; None where a server has them, or a script answers.

    Args:
        model: its name, as `chatkit.naming` says.

    Raises:
        NotPulled: its files are not on this machine.
    """
    name = parse_name(model)
    if name.kind in ("catalogue", "hub"):
        manifest = folder_named(name.target).manifest
        if manifest is None:
            raise NotPulled(f"{model} is not on this machine; pull it first.")
        return _of_manifest(manifest, name.engine or "llamacpp")
    return _of_path(name.path) if name.kind == "path" else None


def _of_manifest(manifest: Manifest, engine: str) -> str:
    arrived = [file for source in manifest.sources for file in source.files]
    # The weights of one engine may be made here from those of the other.
    mine = [file for file in arrived if file.path.endswith(_SUFFIXES[engine])] or arrived
    return _sign(*sorted(file.sha256 for file in mine))


def _of_path(path: Path) -> str:
    if path.is_file():
        return _sign(sha256_of(path))
    if not is_adapter(path):
        return checksum_of(path)
    base = read_adapter(path).checksum or ""
    return _sign(sha256_of(path / "adapter_model.safetensors"), base)


def _sign(*checksums: str) -> str:
    return sha256(" ".join(checksums).encode()).hexdigest()[:32]
