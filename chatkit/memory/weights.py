"""The bytes that a model's weights take, in each way of storing them."""

from collections.abc import Mapping
from typing import NamedTuple

from chatkit.catalogue import Architecture, Entry
from chatkit.hardware import Kind
from chatkit.memory.load import Storage, base_bytes, is_quantized

# Bits per weight, scales included:
# https://github.com/ggml-org/llama.cpp/wiki/Tensor-Encoding-Schemes
_BITS: Mapping[str, float] = {
    "f32": 32, "bf16": 16, "f16": 16, "q8_0": 8.5, "q6_k": 6.5625, "q5_k": 5.5, "q5_1": 6,
    "q5_0": 5.5, "q4_k": 4.5, "q4_1": 5, "q4_0": 4.5,
}  # fmt: skip
# The K formats need rows of a multiple of 256 numbers; llama.cpp stores others in these instead.
_SHORT_ROWS: Mapping[str, str] = {"q6_k": "q8_0", "q5_k": "q5_1", "q4_k": "q5_0"}
_MIXTURES: Mapping[str, str] = {"q5_k_m": "q5_k", "q4_k_m": "q4_k"}
# 4 bits, an 8-bit scale per 64 weights and a 32-bit scale per 256 of those: Dettmers 2023,
# https://arxiv.org/abs/2305.14314, section 3.
_NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
# A model narrower than this keeps these matrices in 16 bits, since 4 would spoil it.
NF4_SMALL_HIDDEN = 1024
NF4_KEPT_WHOLE = ("k_proj", "v_proj", "down_proj")


class Split(NamedTuple):
    """How many weights there are of each sort.

    Args:
        linear: in the layers' matrices.
        tables: in the embedding and in the output head, once where both are the same.
        vectors: in norms.
    """

    linear: int
    tables: int
    vectors: int


def split_parameters(entry: Entry) -> Split:
    """Count the weights of each sort."""
    architecture = entry.architecture
    tables = _table(architecture) * (1 if architecture.tied_embeddings else 2)
    vectors = (2 * architecture.layers + 1) * architecture.hidden
    return Split(entry.parameters - tables - vectors, tables, vectors)


def weight_bytes(entry: Entry, storage: Storage, kind: Kind = "cpu") -> int:
    """Count the bytes of the weights as an engine stores them.

    Args:
        entry: the model.
        storage: a precision, or int8 and nf4 for what torchao and bitsandbytes make of a model.
        kind: decides in which precision int8 leaves what it does not touch.
    """
    base = base_bytes(storage, kind)
    if storage == "int8":
        return _int8_bytes(entry, base)
    if storage == "nf4":
        kept = _kept_whole(entry.architecture)
        return _around_linear(entry, _NF4_BITS, base) + int(kept * (base - _NF4_BITS / 8))
    if is_quantized(storage):
        return _gguf_bytes(entry, storage)
    return int(entry.parameters * _BITS[storage] / 8)


def _int8_bytes(entry: Entry, base: int) -> int:
    """Count torchao's weight-only int8: per output row a scale and an 8-bit zero point."""
    # GPT-2's layers are Conv1D, which torchao leaves alone.
    if entry.architecture.type == "gpt2":
        return entry.parameters * base
    return _around_linear(entry, 8 + 8 * (base + 1) / entry.architecture.hidden, base)


def _kept_whole(architecture: Architecture) -> int:
    """Count the weights of linear layers that NF4 leaves alone in a small model."""
    if architecture.hidden >= NF4_SMALL_HIDDEN:
        return 0
    widths = 2 * architecture.kv_heads * architecture.head_size + architecture.intermediate
    return architecture.layers * architecture.hidden * widths


def _around_linear(entry: Entry, bits: float, base: int) -> int:
    """Count quantised linear layers; embedding, output head and norms keep the base precision."""
    split = split_parameters(entry)
    return int(split.linear * bits / 8) + (split.tables + split.vectors) * base


def _gguf_bytes(entry: Entry, storage: Storage) -> int:
    """Count a quantised GGUF, whose mixture `llama-quantize` decides per tensor.

    The output head has 6 bits or more, and so has the embedding where it is the head too; norms
    have 32. Source: `llama_tensor_get_type_impl` in
    https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp
    """
    architecture, split = entry.architecture, split_parameters(entry)
    base = _MIXTURES.get(storage, storage)
    head = "q8_0" if storage == "q8_0" else "q6_k"
    table = _table(architecture)
    size = _matrix_bytes(table, head, architecture.hidden) + split.vectors * 4
    if not architecture.tied_embeddings:
        size += _matrix_bytes(table, base, architecture.hidden)
    finer = _finer_weights(architecture) if storage in _MIXTURES else Finer(0, 0)
    plain = split.linear - finer.value - finer.down
    return (
        size
        + _matrix_bytes(plain, base, architecture.hidden)
        + _matrix_bytes(finer.value, "q6_k", architecture.hidden)
        + _matrix_bytes(finer.down, "q6_k", architecture.intermediate)
    )


class Finer(NamedTuple):
    """The weights that a mixture stores more finely, in value and in down projections."""

    value: int
    down: int


def _finer_weights(architecture: Architecture) -> Finer:
    """Count them: the first and last eighth of the layers, and every third between."""
    layers = architecture.layers
    first, last = layers // 8, 7 * layers // 8
    finer = sum(i < first or i >= last or (i - first) % 3 == 2 for i in range(layers))
    value = architecture.hidden * architecture.kv_heads * architecture.head_size
    return Finer(finer * value, finer * architecture.intermediate * architecture.hidden)


def _matrix_bytes(weights: int, format_: str, row: int) -> int:
    if row % 256:
        format_ = _SHORT_ROWS.get(format_, format_)
    return int(weights * _BITS[format_] / 8)


def _table(architecture: Architecture) -> int:
    return architecture.vocabulary * architecture.hidden
