"""Loads the weights of a checkpoint for the transformers engine, and weighs them."""

import gc
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chatkit.engines.freed_memory import return_freed_memory
from chatkit.errors import MissingExtra, ModelFileError, NotEnoughMemory
from chatkit.loading.quiet import quiet_libraries
from chatkit.memory import NF4_KEPT_WHOLE, NF4_SMALL_HIDDEN

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel
    from transformers.utils.quantization_config import QuantizationConfigMixin

Quantize = Literal["int8", "int4"]


def load_weights(
    checkpoint: Path,
    quantize: Quantize | None = None,
    adapters: Sequence[Path] = (),
    device: str | None = None,
    *,
    for_training: bool = False,
) -> "PreTrainedModel":
    """Load a checkpoint, ready to answer.

    Args:
        checkpoint: the folder with `config.json` and safetensors.
        quantize: int8 is torchao's weight-only quantisation; int4 bitsandbytes' NF4 (Dettmers
            2023) with double quantisation, where a small model keeps the matrices that suffer
            most in 16 bits; None keeps 32 bits on CPU, 16 bits elsewhere.
        adapters: PEFT adapter folders to load with it; `adapter_key` names each by its place.
        device: where to; None takes the best one here, and all cards where there are several.
        for_training: int8 is bitsandbytes' (Dettmers 2022) then, through which gradients go.

    Raises:
        ModelFileError: the checkpoint or the adapter is corrupt or of another base.
        NotEnoughMemory: the device ran full while it loaded.
        MissingExtra: the package that quantises is not installed.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    spread = device is None and torch.cuda.device_count() > 1
    device = device or best_device()
    dtype = torch.float32 if device == "cpu" else _half_precision(device)
    if quantize == "int4" and device == "cpu":
        dtype = torch.bfloat16
    try:
        with quiet_libraries():
            model: Any = AutoModelForCausalLM.from_pretrained(
                checkpoint,
                dtype=dtype,
                device_map="auto" if spread else device,
                quantization_config=_quantization(checkpoint, quantize, dtype, for_training),
                local_files_only=True,
            )
    except torch.OutOfMemoryError as error:
        raise NotEnoughMemory(
            f"The memory of {device} ran full while {checkpoint} was loaded; let another model go, "
            "or load it with quantize='int8' or 'int4'."
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelFileError(
            f"The checkpoint in {checkpoint} cannot be loaded ({_first_line(error)}); "
            "pull the model again."
        ) from error
    if quantize and device == "cpu":
        _release_what_was_read(model)
    for place, folder in enumerate(adapters):
        model = _with_adapter(model, folder, place)
    evaluating: PreTrainedModel = model.eval()
    return evaluating


def best_device() -> str:
    """Name the device to run on: cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def return_memory() -> None:
    """Give what closed models held back to the machine; PyTorch would keep it for this process."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def weight_bytes(model: "torch.nn.Module") -> int:
    """Count the bytes that a model's weights really take, shared storage once."""
    storages: dict[int, int] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        for part in _parts(tensor):
            storage = part.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _parts(tensor: "torch.Tensor") -> Iterator["torch.Tensor"]:
    """Take a quantised tensor apart into the tensors that hold its data."""
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from _parts(getattr(tensor, name))
        return
    yield tensor
    # bitsandbytes keeps the scales of a 4-bit weight beside it, outside PyTorch's sight.
    state = getattr(tensor, "quant_state", None)
    if state is not None:
        yield state.absmax
        if state.nested:
            yield state.state2.absmax


def _half_precision(device: str) -> "torch.dtype":
    import torch

    bf16 = device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if bf16 else torch.float16


def _quantization(
    checkpoint: Path, quantize: Quantize | None, dtype: "torch.dtype", for_training: bool
) -> "QuantizationConfigMixin | None":
    if quantize is None:
        return None
    try:
        if quantize == "int4":
            return _int4(checkpoint, dtype)
        return _trainable_int8() if for_training else _int8()
    except ImportError as error:
        raise MissingExtra(
            f"quantize={quantize!r} needs a package that is missing ({error}); run "
            "`pip install 'chatkit-lab[quantize]'`."
        ) from error


def _int8() -> "QuantizationConfigMixin":
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _trainable_int8() -> "QuantizationConfigMixin":
    from transformers import BitsAndBytesConfig

    configuration: QuantizationConfigMixin = BitsAndBytesConfig(load_in_8bit=True)
    return configuration


def _int4(checkpoint: Path, dtype: "torch.dtype") -> "QuantizationConfigMixin":
    import bitsandbytes  # noqa: F401  (its absence must be told before loading begins)
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["lm_head", *_kept_whole(checkpoint)],
    )


def _kept_whole(checkpoint: Path) -> tuple[str, ...]:
    """Name the matrices that 4 bits would spoil: in a small model, keys, values and `down`."""
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    return NF4_KEPT_WHOLE if config.get("hidden_size", 0) < NF4_SMALL_HIDDEN else ()


def adapter_key(place: int) -> str:
    """Name an adapter inside a model, where many names that people give are not allowed."""
    return f"adapter{place}"


def _with_adapter(model: "PreTrainedModel | PeftModel", adapter: Path, place: int) -> "PeftModel":
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        if isinstance(model, PeftModel):
            model.load_adapter(adapter, adapter_key(place))
            return model
        return PeftModel.from_pretrained(model, adapter, adapter_key(place))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelFileError(
            f"The adapter in {adapter} does not fit this model ({_first_line(error)}); "
            "open it on the base that it was trained on."
        ) from error


def _release_what_was_read(model: "PreTrainedModel") -> None:
    """Let go of the whole-precision file, of which small unquantised tensors hold the mapping."""
    import torch

    for parameter in model.parameters():
        if type(parameter) is torch.nn.Parameter and parameter.dtype.is_floating_point:
            parameter.data = parameter.data.clone()
    return_freed_memory()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
