"""The memory of a model that answers, estimated part by part from its architecture."""

from collections.abc import Mapping
from dataclasses import dataclass

from chatkit.catalogue import Architecture, EngineName, Entry
from chatkit.hardware import MIB, available_memory
from chatkit.memory.load import Load, base_bytes
from chatkit.memory.weights import weight_bytes

# What the engines do: how many requests run at once, and how many tokens are read in one go.
SLOTS = 4
BATCH_TOKENS = 256
PLAIN_BATCH_TOKENS = 64
PIECE_TOKENS = 256

# What a process holds beside the other parts, measured with SmolLM2-135M on Linux: Python, chatkit,
# the engine's libraries, the tokenizer, and heap that stays reserved. The embedded engine's number
# has 32 MiB for conversations that rest, which may grow; transformers' has SciPy and scikit-learn,
# which it loads where they are installed, and half of the 110 MiB by which the libraries' own pages
# differ: the kernel maps more of them while their files are in its cache, as after installing.
PROCESS_OVERHEAD: Mapping[EngineName, int] = {"llamacpp": 160 * MIB, "transformers": 510 * MIB}
# torchao or bitsandbytes, and the heap in which they unpacked the weights; measured likewise.
QUANTIZER_OVERHEAD = 100 * MIB
# What PyTorch holds on each card beside tensors: CUDA's context, kernels and workspaces. Measured
# on an H200 with PyTorch 2.11 and CUDA 13.0; it differs by card and driver.
CUDA_OVERHEAD = 850 * MIB
# An assumption: the same for llama.cpp, and for Metal.
ACCELERATOR_OVERHEAD = 512 * MIB

_SHORTEST = 512
_STEP = 256


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """The memory of a model that answers, in bytes, when all of the context is in use.

    Args:
        weights: the model itself.
        kv_cache: keys and values of all tokens in the context.
        activations: what one step computes with.
        overhead: what the process holds beside the model; constant for an engine.
    """

    weights: int
    kv_cache: int
    activations: int
    overhead: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.kv_cache + self.activations + self.overhead


def estimate(entry: Entry, load: Load) -> MemoryEstimate:
    """Estimate the memory of a load on one device."""
    architecture = entry.architecture
    embedded = load.engine == "llamacpp"
    activations = _compute_buffer if embedded else _transformers_activations
    return MemoryEstimate(
        weights=weight_bytes(entry, load.storage, load.kind),
        kv_cache=kv_cache_bytes(architecture, load),
        activations=activations(architecture, load),
        overhead=overhead_bytes(load),
    )


def kv_cache_bytes(architecture: Architecture, load: Load) -> int:
    """Count the bytes of keys and values: two vectors per token, layer and KV head.

    Local layers keep their window only. llama.cpp stores 16 bits, transformers what it computes in.
    """
    full = _full_layers(architecture)
    local = architecture.layers - full
    cells = full * load.context * load.batch + local * _local_cells(architecture, load)
    width = 2 if load.engine == "llamacpp" else base_bytes(load.storage, load.kind)
    return 2 * cells * architecture.kv_heads * architecture.head_size * width


def overhead_bytes(load: Load) -> int:
    """Give what a process holds beside the model: in RAM its own, on a card the driver's."""
    if load.kind == "cuda":
        return CUDA_OVERHEAD if load.engine == "transformers" else ACCELERATOR_OVERHEAD
    process = PROCESS_OVERHEAD[load.engine]
    process += QUANTIZER_OVERHEAD if load.storage in ("int8", "nf4") else 0
    return process + (ACCELERATOR_OVERHEAD if load.kind == "mps" else 0)


def fitting_context(entry: Entry, most: int, free: int | None = None) -> int:
    """Give the longest context of which the cache fits into a quarter of the free memory.

    Args:
        entry: the model, in the embedded engine.
        most: the longest context that makes sense, in tokens.
        free: free bytes; None asks the machine.

    Returns:
        tokens; a multiple of 256 where `most` does not fit, and then no less than 512.
    """
    budget = (available_memory() if free is None else free) // 4
    context = most
    while context > _SHORTEST:
        if kv_cache_bytes(entry.architecture, Load("llamacpp", "f16", context)) <= budget:
            return context
        context = (context - 1) // _STEP * _STEP
    return min(most, _SHORTEST)


def _full_layers(architecture: Architecture) -> int:
    """Count the layers that see the whole context."""
    if architecture.sliding_window is None:
        return architecture.layers
    return architecture.layers // architecture.global_every if architecture.global_every else 0


def _local_cells(architecture: Architecture, load: Load) -> int:
    """Count the tokens that a local layer keeps, of all conversations together."""
    window = architecture.sliding_window or 0
    if load.engine == "llamacpp":
        kept = window * max(load.batch, SLOTS) + BATCH_TOKENS
        return min(load.context * load.batch, kept)
    return min(load.context, window) * load.batch


def _compute_buffer(architecture: Architecture, load: Load) -> int:
    """Count llama.cpp's compute and output buffers, of the attention that needs more.

    Per token of a batch there are its mask over the cache in 16 bits, five vectors of the residual
    width and three of the feed-forward width in 32; per request the logits. It is what
    `sched_reserve` reported for 14 sizes of model, batch and context, to 1 % where the feed-forward
    width is twice the residual width or more, and above it elsewhere. Plain attention, on a CPU,
    has its scores for each head and its mask in 32 bits, for fewer tokens at once.
    """
    cells = load.context * load.batch
    vectors = 4 * (5 * architecture.hidden + 3 * architecture.intermediate)
    buffer = BATCH_TOKENS * (2 * cells + vectors)
    if load.kind == "cpu":
        scores = 4 * cells * (architecture.heads + 1)
        buffer = max(buffer, PLAIN_BATCH_TOKENS * (scores + vectors))
    return buffer + 4 * max(load.batch, SLOTS) * architecture.vocabulary


def _transformers_activations(architecture: Architecture, load: Load) -> int:
    """Count one layer's live tensors, the logits, and the cache's second copies.

    Live at once are six vectors of the residual width and four of the feed-forward width per token,
    and the keys and values of the layer whose cache grows. glibc's heap keeps about half of a cache
    that grew beside it (measured); the allocators of CUDA and Metal reuse what is freed.
    """
    tokens = min(load.context, PIECE_TOKENS) if load.batch == 1 else load.context * load.batch
    widths = 6 * architecture.hidden + 4 * architecture.intermediate
    logits = 8 * load.batch * architecture.vocabulary
    cache = kv_cache_bytes(architecture, load)
    heap = cache // 2 if load.kind == "cpu" else 0
    return (
        tokens * widths * base_bytes(load.storage, load.kind)
        + logits
        + cache // architecture.layers
        + heap
    )
