"""Reading GGUF files and writing a half-precision twin of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatkit.errors import ModelFileError

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderField, ReaderTensor

_HEADER = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture")
_MOSTLY_F16 = 1


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
    """Write the same weights as 16-bit floats, keeping every other fact of the file.

    One-dimensional tensors (norms, biases) stay 32-bit, as llama.cpp wants them.

    Args:
        source: a GGUF file of any quantisation that the gguf package can undo.
        target: the file to write; the caller moves it into place.

    Raises:
        ModelFileError: the source is not a whole GGUF file.
    """
    from gguf import GGUFWriter

    with open_gguf(source) as reader:
        architecture = reader.fields["general.architecture"].contents()
        writer = GGUFWriter(target, architecture)
        for key, field in reader.fields.items():
            if key not in _HEADER:
                _copy_field(writer, key, field)
        tensors = [(tensor, _target_type(tensor)) for tensor in reader.tensors]
        for tensor, data_type in tensors:
            shape = [int(size) for size in reversed(tensor.shape)]
            size = tensor.n_elements * data_type.itemsize
            writer.add_tensor_info(tensor.name, shape, data_type, size)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, data_type in tensors:
            writer.write_tensor_data(_dequantised(tensor).astype(data_type))
        writer.close()


def _check_length(path: Path, reader: "GGUFReader") -> None:
    ends = [tensor.data_offset + tensor.n_bytes for tensor in reader.tensors]
    if not ends or max(ends) > path.stat().st_size:
        raise ValueError("it ends before its tensors do")


def _copy_field(writer: Any, key: str, field: "ReaderField") -> None:
    value = _MOSTLY_F16 if key == "general.file_type" else field.contents()
    item_type = field.types[-1] if len(field.types) > 1 else None
    writer.add_key_value(key, value, field.types[0], sub_type=item_type)


def _target_type(tensor: "ReaderTensor") -> Any:
    import numpy

    return numpy.dtype(numpy.float32 if len(tensor.shape) == 1 else numpy.float16)


def _dequantised(tensor: "ReaderTensor") -> Any:
    from gguf.quants import dequantize

    return dequantize(tensor.data, tensor.tensor_type)
