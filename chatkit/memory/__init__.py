"""How much memory a model takes, and whether it fits; `docs/memory.md` explains the formulas."""

from chatkit.memory.fitting import (
    HEADROOM,
    Verdict,
    devices_needed,
    training_verdict,
    usable,
    verdict,
)
from chatkit.memory.inference import MemoryEstimate, estimate, fitting_context, kv_cache_bytes
from chatkit.memory.load import (
    DEFAULT_CONTEXT,
    QUANTIZATIONS,
    Load,
    Quantization,
    Storage,
    Workload,
    load_of,
    offered,
)
from chatkit.memory.training import Method, Training, TrainingEstimate, estimate_training
from chatkit.memory.weights import NF4_KEPT_WHOLE, NF4_SMALL_HIDDEN, weight_bytes

__all__ = [
    "DEFAULT_CONTEXT",
    "HEADROOM",
    "NF4_KEPT_WHOLE",
    "NF4_SMALL_HIDDEN",
    "QUANTIZATIONS",
    "Load",
    "MemoryEstimate",
    "Method",
    "Quantization",
    "Storage",
    "Training",
    "TrainingEstimate",
    "Verdict",
    "Workload",
    "devices_needed",
    "estimate",
    "estimate_training",
    "fitting_context",
    "kv_cache_bytes",
    "load_of",
    "offered",
    "training_verdict",
    "usable",
    "verdict",
    "weight_bytes",
]
