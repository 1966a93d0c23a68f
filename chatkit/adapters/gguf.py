"""Writes a PEFT adapter in the form that llama.cpp reads, alone or merged into its base.

Source: llama.cpp, convert_lora_to_gguf.py and src/llama-adapter.cpp, for the names of tensors and
keys; PEFT, tuners/lora/layer.py, for the scale.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from chatkit.adapters.reading import Adapter
from chatkit.errors import ModelFileError, Unsupported
from chatkit.loading.gguf import Storage, metadata, open_gguf, write_gguf
from chatkit.settings import settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Names of a layer's matrices in checkpoints, and in GGUF.
MATRICES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# Of these llama.cpp turns the rows of queries and keys, since it rotates them in pairs.
TURNED = frozenset({"llama"})
KNOWN = TURNED | {"qwen2", "qwen3", "gemma", "gemma2", "gemma3"}
_KEY = re.compile(
    r"base_model\.model\.(?:model\.)+layers\.(\d+)\.(.+)\.lora_([AB])(?:\.\w+)?\.weight"
)
# What PEFT can do beside LoRA's two matrices, and llama.cpp cannot.
_BESIDE = ("use_dora", "modules_to_save", "trainable_token_indices", "layer_replication")
_VERSION = b"1"


class _Base(NamedTuple):
    """The facts of a base model that an adapter must fit."""

    architecture: str
    heads: int
    key_heads: int
    shapes: Mapping[str, tuple[int, int]]


def adapter_for_llamacpp(adapter: Adapter, base: Path) -> Path:
    """Give an adapter's GGUF file, written now unless the same adapter was written before.

    Args:
        adapter: a PEFT adapter.
        base: the GGUF file of its base, of any precision.

    Raises:
        Unsupported: the adapter is more than LoRA, or of an architecture that is not known here.
        ModelFileError: it is broken, or was trained on another base.
    """
    folder = settings().home / "adapters"
    target = folder / f"{_content_hash(adapter, base)}.gguf"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{target.name}.{os.getpid()}.draft"
    try:
        _write(adapter, _read_base(base, base.stat().st_mtime_ns), draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _content_hash(adapter: Adapter, base: Path) -> str:
    digest = hashlib.sha256(_VERSION)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        digest.update(hashlib.sha256((adapter.folder / name).read_bytes()).digest())
    # The base's shapes are checked while the file is written, so it is one for each base.
    digest.update(f"{base.name}:{base.stat().st_size}".encode())
    return digest.hexdigest()[:24]


@lru_cache(maxsize=8)
def _read_base(path: Path, _changed: int) -> _Base:
    """Read a model's facts; remembered, since its vocabulary makes that a matter of seconds."""
    with open_gguf(path) as reader:
        facts = metadata(reader)
        shapes = {
            tensor.name: (int(tensor.shape[1]), int(tensor.shape[0]))
            for tensor in reader.tensors
            if len(tensor.shape) == 2
        }
    architecture = facts["general.architecture"]
    heads = int(facts[f"{architecture}.attention.head_count"])
    return _Base(
        architecture,
        heads,
        int(facts.get(f"{architecture}.attention.head_count_kv", heads)),
        shapes,
    )


def _write(adapter: Adapter, base: _Base, target: Path) -> None:
    from gguf import GGUFWriter

    config = _configuration(adapter)
    alpha = float(config["lora_alpha"])
    writer = GGUFWriter(target, base.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for matrix in _matrices(adapter, config, base):
        rank = matrix.down.shape[0]
        writer.add_tensor(f"{matrix.name}.lora_a", matrix.down)
        # llama.cpp multiplies by alpha / rank; what differs from it goes into the matrix.
        writer.add_tensor(f"{matrix.name}.lora_b", matrix.up * (rank / alpha))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_merged(adapter: Adapter, base: Path, target: Path, storage: Storage) -> None:
    """Write a base with an adapter merged into it as one GGUF file.

    Args:
        adapter: a PEFT adapter.
        base: the GGUF file of its base, best of 16 bits.
        target: the file to write.
        storage: its precision.

    Raises:
        Unsupported: the adapter is more than LoRA, or of an architecture that is not known here.
        ModelFileError: it is broken, or was trained on another base.
    """
    facts = _read_base(base, base.stat().st_mtime_ns)
    found = {one.name: one for one in _matrices(adapter, _configuration(adapter), facts)}

    def change(name: str, weights: "NDArray[Any]") -> "NDArray[Any]":
        matrix = found.get(name)
        if matrix is None:
            return weights
        merged: NDArray[Any] = weights.astype("float32") + matrix.up @ matrix.down
        return merged

    write_gguf(base, target, storage, change)


class _Matrix(NamedTuple):
    """What an adapter adds to one matrix: `up @ down`, its scale included."""

    name: str
    down: "NDArray[Any]"
    up: "NDArray[Any]"


def _configuration(adapter: Adapter) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((adapter.folder / "adapter_config.json").read_text("utf-8"))
    return found


def _matrices(adapter: Adapter, config: Mapping[str, Any], base: _Base) -> Iterator[_Matrix]:
    """Give what an adapter adds, with GGUF's names and order of rows."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    _refuse_more_than_lora(adapter, config, base)
    try:
        weights = load_file(adapter.folder / "adapter_model.safetensors")
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"The weights of the adapter in {adapter.folder} cannot be read ({error}); save it "
            "again, in 16 or 32 bits."
        ) from None
    for name, (down, up) in sorted(_pairs(adapter, weights).items()):
        matrix = _gguf_name(adapter, name)
        _check_shape(adapter, base, matrix, down, up)
        up = up.astype("float32") * _scale(config, name, down.shape[0])
        if base.architecture in TURNED and matrix.endswith(("attn_q.weight", "attn_k.weight")):
            up = _turned(up, base.heads if "attn_q" in matrix else base.key_heads)
        yield _Matrix(matrix, down.astype("float32"), up)


def _refuse_more_than_lora(adapter: Adapter, config: Mapping[str, Any], base: _Base) -> None:
    beside = [name for name in _BESIDE if config.get(name)]
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        beside.append("bias")
    if beside:
        raise Unsupported(
            f"The adapter in {adapter.folder} has {beside[0]}, which llama.cpp cannot put over a "
            "model; open it with @transformers, or merge it."
        )
    if base.architecture not in KNOWN:
        raise Unsupported(
            f"Adapters of the architecture {base.architecture} are not known here; open "
            f"{adapter.folder} with @transformers."
        )


def _pairs(
    adapter: Adapter, weights: "Mapping[str, NDArray[Any]]"
) -> "dict[str, tuple[NDArray[Any], NDArray[Any]]]":
    """Put together the two matrices of each module, by the module's name in the checkpoint."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for key, weight in weights.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise Unsupported(
                f"The adapter in {adapter.folder} changes {key}, which llama.cpp cannot put over "
                "a model; open it with @transformers, or merge it."
            )
        layer, module, side = match.groups()
        found.setdefault(f"layers.{layer}.{module}", {})[side] = weight
    if not found or any(set(sides) != {"A", "B"} for sides in found.values()):
        raise ModelFileError(f"The adapter in {adapter.folder} lacks matrices; save it again.")
    return {name: (sides["A"], sides["B"]) for name, sides in found.items()}


def _gguf_name(adapter: Adapter, name: str) -> str:
    _, layer, module = name.split(".", 2)
    if module not in MATRICES:
        raise Unsupported(
            f"The adapter in {adapter.folder} changes {module}, which is not known here; open it "
            "with @transformers, or merge it."
        )
    return f"blk.{layer}.{MATRICES[module]}.weight"


def _check_shape(
    adapter: Adapter, base: _Base, matrix: str, down: "NDArray[Any]", up: "NDArray[Any]"
) -> None:
    shape = (up.shape[0], down.shape[1])
    if base.shapes.get(matrix) != shape or up.shape[1] != down.shape[0]:
        raise ModelFileError(
            f"The adapter in {adapter.folder} does not fit this model: {matrix} is "
            f"{base.shapes.get(matrix)} here and {shape} there; open it on the base that it was "
            "trained on."
        )


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """Give the factor of a module's change, as PEFT applies it."""
    alpha = float(_of_module(config.get("alpha_pattern"), name, config["lora_alpha"]))
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _of_module(pattern: Mapping[str, Any] | None, name: str, otherwise: Any) -> Any:
    for key, value in (pattern or {}).items():
        if re.fullmatch(rf"(?:.*\.)?{key}", f"model.{name}"):
            return value
    return otherwise


def _turned(up: "NDArray[Any]", heads: int) -> "NDArray[Any]":
    """Turn the rows of each head from halves into pairs, (out, rank)."""
    rows, rank = up.shape
    return up.reshape(heads, 2, rows // heads // 2, rank).swapaxes(1, 2).reshape(rows, rank)
