"""Reading GGUF files, and writing one again in another precision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chatkit.errors import ModelFileError
from chatkit.memory import NF4_SMALL_HIDDEN

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFReader, ReaderField, ReaderTensor
    from numpy.typing import NDArray

Storage = Literal["f16", "q8_0", "q4_1"]
Change = Callable[[str, "NDArray[Any]"], "NDArray[Any]"]

_HEADER = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture")
# What `general.file_type` calls them (llama.cpp, include/llama.h, llama_ftype).
_FILE_TYPES: dict[Storage, int] = {"f16": 1, "q4_1": 3, "q8_0": 7}
_FINER = ("token_embd.weight", "output.weight")
# What 4 bits harm most in models whose rows are narrow, as with NF4 (`chatkit.memory.weights`).
_FINER_IF_SMALL = ("attn_k.weight", "attn_v.weight", "ffn_down.weight")


@contextmanager
def open_gguf(path: Path) -> Iterator["GGUFReader"]:
    """Open a GGUF file for reading; its tensors are mapped, not loaded.

    Raises:
        ModelFileError: the file is missing, cut short or no GGUF.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        _check_length(path, reader)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ModelFileError(
            f"{path.name} is not a whole GGUF file ({error}); pull the model again."
        ) from error
    yield reader


def metadata(reader: "GGUFReader") -> dict[str, Any]:
    """Give all key-value pairs of a GGUF file."""
    return {key: field.contents() for key, field in reader.fields.items()}


def write_f16(source: Path, target: Path) -> None:
    """Write the same weights as 16-bit floats; see `write_gguf`."""
    write_gguf(source, target, "f16")


def write_gguf(
    source: Path, target: Path, storage: Storage, change: Change = lambda name, weights: weights
) -> None:
    """Write the same weights in another precision, keeping every other fact of the file.

    One-dimensional tensors (norms, biases) stay 32-bit, as llama.cpp wants them. With 4 bits the
    embeddings have 8, since they are the output too in small models, and so have the matrices of
    small models that suffer most.

    Args:
        source: a GGUF file of any quantisation that the gguf package can undo.
        target: the file to write; the caller moves it into place.
        storage: the precision.
        change: is given each tensor's name and its weights in 32 bits, and gives what is written.

    Raises:
        ModelFileError: the source is not a whole GGUF file.
    """
    from gguf import GGUFWriter

    with open_gguf(source) as reader:
        architecture = reader.fields["general.architecture"].contents()
        writer = GGUFWriter(target, architecture)
        for key, field in reader.fields.items():
            if key not in _HEADER:
                _copy_field(writer, key, field, storage)
        hidden = int(reader.fields[f"{architecture}.embedding_length"].contents())
        kinds = [(tensor, _target_type(tensor, storage, hidden)) for tensor in reader.tensors]
        for tensor, kind in kinds:
            _announce(writer, tensor, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, kind in kinds:
            weights = change(tensor.name, _dequantised(tensor))
            writer.write_tensor_data(_encoded(weights, kind))
        writer.close()


def _check_length(path: Path, reader: "GGUFReader") -> None:
    ends = [tensor.data_offset + tensor.n_bytes for tensor in reader.tensors]
    if not ends or max(ends) > path.stat().st_size:
        raise ValueError("it ends before its tensors do")


def _copy_field(writer: Any, key: str, field: "ReaderField", storage: Storage) -> None:
    value = _FILE_TYPES[storage] if key == "general.file_type" else field.contents()
    item_type = field.types[-1] if len(field.types) > 1 else None
    writer.add_key_value(key, value, field.types[0], sub_type=item_type)


def _target_type(tensor: "ReaderTensor", storage: Storage, hidden: int) -> "GGMLQuantizationType":
    from gguf import GGMLQuantizationType as Kind

    if len(tensor.shape) == 1:
        return Kind.F32
    if storage == "q4_1" and _needs_8_bits(tensor.name, hidden):
        return Kind.Q8_0
    return {"f16": Kind.F16, "q8_0": Kind.Q8_0, "q4_1": Kind.Q4_1}[storage]


def _needs_8_bits(name: str, hidden: int) -> bool:
    return name in _FINER or (hidden < NF4_SMALL_HIDDEN and name.endswith(_FINER_IF_SMALL))


def _announce(writer: Any, tensor: "ReaderTensor", kind: "GGMLQuantizationType") -> None:
    """Tell the writer a tensor's size, which for quantised ones is counted in bytes."""
    import numpy
    from gguf import GGMLQuantizationType as Kind
    from gguf.quants import quant_shape_to_byte_shape

    shape = [int(size) for size in reversed(tensor.shape)]
    if kind in (Kind.F32, Kind.F16):
        dtype = numpy.dtype(numpy.float32 if kind == Kind.F32 else numpy.float16)
        writer.add_tensor_info(tensor.name, shape, dtype, tensor.n_elements * dtype.itemsize)
        return
    held = quant_shape_to_byte_shape(shape, kind)
    size = int(numpy.prod(held))
    writer.add_tensor_info(tensor.name, held, numpy.dtype(numpy.uint8), size, raw_dtype=kind)


def _encoded(weights: "NDArray[Any]", kind: "GGMLQuantizationType") -> "NDArray[Any]":
    import numpy
    from gguf import GGMLQuantizationType as Kind
    from gguf.quants import quantize

    if kind in (Kind.F32, Kind.F16):
        return weights.astype(numpy.float32 if kind == Kind.F32 else numpy.float16)
    encoded: NDArray[Any] = quantize(weights.astype(numpy.float32), kind)
    return encoded


def _dequantised(tensor: "ReaderTensor") -> "NDArray[Any]":
    from gguf.quants import dequantize

    weights: NDArray[Any] = dequantize(tensor.data, tensor.tensor_type)
    return weights
