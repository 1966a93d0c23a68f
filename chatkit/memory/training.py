"""The memory of fine-tuning, estimated part by part."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from chatkit.catalogue import Architecture, Entry
from chatkit.errors import InputError, Unsupported
from chatkit.hardware import MIB, Kind
from chatkit.memory.inference import overhead_bytes
from chatkit.memory.load import Load, Storage, base_bytes
from chatkit.memory.weights import weight_bytes

Method = Literal["lora", "qlora", "full"]

# A number that AdamW trains, its gradient and its two moments have 32 bits each.
_NUMBER = 4
_MOMENTS = 8
# Bytes per token and vocabulary entry: logits, their log-softmax, and a gradient of each.
_LOGITS: Mapping[int, int] = {4: 16, 2: 14}
# glibc's heap holds about as much again as the tensors that come and go in it (measured).
_HEAP: Mapping[Kind, int] = {"cpu": 2, "cuda": 1, "mps": 1}
# PEFT, TRL and datasets, on top of the transformers engine's overhead.
_LIBRARIES = 100 * MIB


class _Saved(NamedTuple):
    """Bytes that one layer saves per token for the backward pass, by the width they go with."""

    intermediate: int
    key_value: int
    hidden: int


# Counted with `torch.autograd.graph.saved_tensors_hooks` on Llama layers of several widths, with
# PyTorch 2.13, transformers 4.57 and PEFT 0.21: 32-bit training, bfloat16 weights below 32-bit
# adapters, and 32-bit weights under bfloat16 autocast.
_SAVED: Mapping[tuple[bool, int], _Saved] = {
    (False, 4): _Saved(16, 8, 25),
    (False, 2): _Saved(10, 4, 37),
    (True, 4): _Saved(16, 8, 32),
    (True, 2): _Saved(22, 13, 39),
}


@dataclass(frozen=True, slots=True)
class Training:
    """A fine-tuning run, as far as it decides memory.

    Args:
        method: LoRA on 16- or 32-bit weights, QLoRA on NF4 weights, or all weights.
        rank: the rank of the adapters.
        length: tokens of one example.
        batch: examples in one micro-batch.
        checkpointing: whether activations are computed again instead of kept.
        trained_share: the share of tokens whose logits are computed; plain trainers compute all.

    Raises:
        InputError: a number is below one.
    """

    method: Method = "lora"
    rank: int = 16
    length: int = 1024
    batch: int = 1
    checkpointing: bool = True
    trained_share: float = 1.0

    def __post_init__(self) -> None:
        numbers = {"rank": self.rank, "length": self.length, "batch": self.batch}
        for name, value in numbers.items():
            if value < 1:
                raise InputError(f"The training's {name} is {value}; give at least 1.")


@dataclass(frozen=True, slots=True)
class TrainingEstimate:
    """The memory of a fine-tuning run on one device, part by part, in bytes.

    Args:
        weights: the model itself.
        adapter: the adapter's weights; none where all weights are trained.
        gradients: of what is trained.
        optimiser: AdamW's two moments of what is trained.
        activations: what the backward pass needs, at its peak.
        overhead: what the process holds beside all that.
    """

    weights: int
    adapter: int
    gradients: int
    optimiser: int
    activations: int
    overhead: int

    @property
    def total(self) -> int:
        """All parts together."""
        learning = self.adapter + self.gradients + self.optimiser
        return self.weights + learning + self.activations + self.overhead


def estimate_training(entry: Entry, training: Training, kind: Kind = "cuda") -> TrainingEstimate:
    """Estimate the memory of a fine-tuning run on a kind of device.

    Raises:
        InputError: the examples are longer than the model's window.
        Unsupported: the model's adapter targets are not known here.
    """
    if training.length > entry.context:
        raise InputError(
            f"Examples of {training.length} tokens exceed {entry.name}'s window of {entry.context}."
        )
    adapter = 0 if training.method == "full" else adapter_parameters(entry, training.rank)
    trained = adapter or entry.parameters
    storage = _storage(training.method, kind)
    process = overhead_bytes(Load("transformers", storage, training.length, kind=kind))
    return TrainingEstimate(
        weights=weight_bytes(entry, storage, kind),
        adapter=adapter * _NUMBER,
        gradients=trained * _NUMBER,
        optimiser=trained * _MOMENTS,
        activations=_activations(entry.architecture, training, kind),
        overhead=process + (0 if kind == "cuda" else _LIBRARIES),
    )


def adapter_parameters(entry: Entry, rank: int) -> int:
    """Count the weights of a LoRA adapter: rank times in and out widths of each target.

    Raises:
        Unsupported: the shape of a target is not known here.
    """
    shapes = _target_shapes(entry.architecture)
    unknown = [target for target in entry.lora_targets if target not in shapes]
    if unknown:
        raise Unsupported(
            f"The shape of {entry.name}'s {', '.join(unknown)} is not known, so its adapter cannot "
            "be estimated; add it to chatkit/memory/training.py."
        )
    widths = sum(sum(shapes[target]) for target in entry.lora_targets)
    return entry.architecture.layers * rank * widths


def _storage(method: Method, kind: Kind) -> Storage:
    match method:
        case "full":
            return "f32"
        case "qlora":
            return "nf4"
        case "lora":
            return "f32" if kind == "cpu" else "bf16"


def _computing_bytes(method: Method, kind: Kind) -> int:
    """Give the bytes per number that a step computes with; off the CPU autocast has 16 bits."""
    return 2 if method == "full" and kind != "cpu" else base_bytes(_storage(method, kind), kind)


def _target_shapes(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """Give input and output widths of the layers that adapters are put on, by their names."""
    hidden, wide = architecture.hidden, architecture.intermediate
    query = architecture.heads * architecture.head_size
    key_value = architecture.kv_heads * architecture.head_size
    if architecture.type == "gpt2":
        # PEFT finds both of GPT-2's layers that are named c_proj.
        both = (hidden + wide, 2 * hidden)
        return {"c_attn": (hidden, 3 * hidden), "c_proj": both, "c_fc": (hidden, wide)}
    return {
        "q_proj": (hidden, query),
        "k_proj": (hidden, key_value),
        "v_proj": (hidden, key_value),
        "o_proj": (query, hidden),
        "gate_proj": (hidden, wide),
        "up_proj": (hidden, wide),
        "down_proj": (wide, hidden),
        "qkv_proj": (hidden, query + 2 * key_value),
        "gate_up_proj": (hidden, 2 * wide),
    }


def _activations(architecture: Architecture, training: Training, kind: Kind) -> int:
    """Count the peak: at the end of the backward pass's first step, logits and layers together.

    With checkpointing (Chen 2016, https://arxiv.org/abs/1604.06174) a layer keeps its input only,
    and one layer at a time has its tensors and their gradients.
    """
    base = _computing_bytes(training.method, kind)
    saved = _SAVED[training.method == "full", base]
    layer = (
        saved.intermediate * architecture.intermediate
        + saved.key_value * architecture.kv_heads * architecture.head_size
        + saved.hidden * architecture.hidden
    )
    if training.checkpointing:
        layers = architecture.layers * architecture.hidden * base + 2 * layer
    else:
        layers = architecture.layers * layer
    per_token = layers + round(_LOGITS[base] * architecture.vocabulary * training.trained_share)
    return training.length * training.batch * per_token * _HEAP[kind]
