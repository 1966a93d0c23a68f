"""How a model is run in TGI's container: limits that fit the card, and the launcher's options."""

from dataclasses import dataclass
from typing import Literal, get_args

from chatkit.catalogue import Entry, HubSource
from chatkit.errors import InputError, NotEnoughMemory, Unsupported
from chatkit.hardware import GIB, Hardware

IMAGE = "ghcr.io/huggingface/text-generation-inference:3.3.7"
Quantization = Literal["bitsandbytes-nf4", "bitsandbytes", "eetq", "fp8", "awq", "gptq"]
# Bytes of a weight; 4-bit methods keep scales and the outer layers in more.
BYTES_PER_WEIGHT = {
    None: 2.0,
    "bitsandbytes-nf4": 0.62,
    "awq": 0.62,
    "gptq": 0.62,
    "bitsandbytes": 1.06,
    "eetq": 1.06,
    "fp8": 1.06,
}
# These read a repository that was quantised before; the others quantise while they load.
PREPARED = ("awq", "gptq")
# What a card holds beside weights and cache: CUDA's context, graphs, and one step's activations.
CARD_OVERHEAD = int(1.5 * GIB)
USABLE = 0.95
SHORTEST = 512
LONGEST_PREFILL = 16_384


@dataclass(frozen=True, slots=True)
class TgiPlan:
    """A model in TGI's container.

    Args:
        model_id: what TGI loads: a repository of the hub.
        revision: of the repository.
        gated: whether the hub wants a token for it.
        shards: over how many cards it is spread.
        quantize: TGI's method, None for 16 bits.
        adapters: LoRA adapters as TGI names them.
        max_input_tokens: the longest prompt.
        max_total_tokens: the longest prompt and answer together.
        max_batch_total_tokens: the tokens that the cache holds, of all requests together.
    """

    model_id: str
    revision: str
    gated: bool
    shards: int
    quantize: Quantization | None
    adapters: tuple[str, ...]
    max_input_tokens: int
    max_total_tokens: int
    max_batch_total_tokens: int

    @property
    def environment(self) -> dict[str, str]:
        """The launcher's options as its environment variables."""
        options = {
            "MODEL_ID": self.model_id,
            "REVISION": self.revision,
            "NUM_SHARD": str(self.shards),
            "QUANTIZE": self.quantize or "",
            "LORA_ADAPTERS": ",".join(self.adapters),
            "MAX_INPUT_TOKENS": str(self.max_input_tokens),
            "MAX_TOTAL_TOKENS": str(self.max_total_tokens),
            "MAX_BATCH_PREFILL_TOKENS": str(self.max_batch_prefill_tokens),
            "MAX_BATCH_TOTAL_TOKENS": str(self.max_batch_total_tokens),
            "USAGE_STATS": "off",
        }
        return {name: value for name, value in options.items() if value}

    @property
    def max_batch_prefill_tokens(self) -> int:
        """The tokens that are read in one step; at least one whole prompt."""
        return max(self.max_input_tokens, min(4096, self.max_batch_total_tokens))


def plan_tgi(
    entry: Entry,
    hardware: Hardware,
    quantize: str | None = None,
    shards: int | None = None,
    adapters: tuple[str, ...] = (),
) -> TgiPlan:
    """Compute limits that fit.

    Args:
        entry: the model.
        hardware: the cards.
        quantize: one of TGI's methods, None for 16 bits.
        shards: over how many cards; None for all.
        adapters: `NAME=FOLDER` or repositories, as TGI's LORA_ADAPTERS takes them.

    Raises:
        InputError: a value is none that TGI or the cards have.
        Unsupported: TGI cannot load this model.
        NotEnoughMemory: it does not fit; the sentence says what would.
    """
    source = next((one for one in entry.sources if isinstance(one, HubSource)), None)
    if source is None:
        raise Unsupported(
            f"{entry.name} is no repository of the hub, which TGI's container loads from; choose "
            "another model, or serve it with `python -m serve engine`."
        )
    method = _method(quantize)
    cards = [device for device in hardware.devices if device.kind == "cuda"]
    if not cards:
        raise InputError("There is no NVIDIA card here; say which one with --gpu 24GB or 2x80GB.")
    count = shards or len(cards)
    if not 1 <= count <= len(cards):
        raise InputError(f"There are {len(cards)} cards; spread the model over 1 to {len(cards)}.")
    if entry.architecture.heads % count:
        raise InputError(
            f"{entry.name} has {entry.architecture.heads} heads, which {count} cards cannot share "
            "evenly; choose another --shards."
        )
    tokens = _cached_tokens(entry, min(card.free for card in cards[:count]), count, method)
    if tokens < SHORTEST:
        raise NotEnoughMemory(_what_would_fit(entry, cards[0].memory, count, method))
    total = min(entry.context, tokens)
    return TgiPlan(
        source.repo,
        source.revision,
        entry.gated,
        count,
        method,
        adapters,
        min(total - max(1, min(total // 4, 4096)), LONGEST_PREFILL),
        total,
        tokens,
    )


def docker_command(plan: TgiPlan, port: int, volume: str) -> list[str]:
    """Give the words of the `docker run` command.

    Args:
        plan: what is run.
        port: the port on this machine's loopback address.
        volume: the folder that keeps downloaded weights.
    """
    flags = {
        "--model-id": plan.model_id,
        "--revision": plan.revision,
        "--num-shard": str(plan.shards),
        "--quantize": plan.quantize or "",
        "--lora-adapters": ",".join(plan.adapters),
        "--max-input-tokens": str(plan.max_input_tokens),
        "--max-total-tokens": str(plan.max_total_tokens),
        "--max-batch-prefill-tokens": str(plan.max_batch_prefill_tokens),
        "--max-batch-total-tokens": str(plan.max_batch_total_tokens),
        "--usage-stats": "off",
    }
    words = ["docker", "run", "--rm", "--gpus", "all", "--shm-size", "1g"]
    words += ["--publish", f"127.0.0.1:{port}:80", "--volume", f"{volume}:/data"]
    if plan.gated:
        # By its name only: the value stays out of the command and of the shell's history.
        words += ["--env", "HF_TOKEN"]
    words.append(IMAGE)
    for flag, value in flags.items():
        words += [flag, value] if value else []
    return words


def _method(quantize: str | None) -> Quantization | None:
    for known in get_args(Quantization):
        if known == quantize:
            method: Quantization = known
            return method
    if quantize is not None:
        raise InputError(
            f"TGI has no quantisation {quantize!r}; use {', '.join(get_args(Quantization))}."
        )
    return None


def _cached_tokens(entry: Entry, card: int, shards: int, quantize: Quantization | None) -> int:
    """Count the tokens whose keys and values fit beside the weights."""
    architecture = entry.architecture
    weights = int(entry.parameters * BYTES_PER_WEIGHT[quantize])
    left = (int(card * USABLE) - CARD_OVERHEAD) * shards - weights
    per_token = 2 * 2 * architecture.layers * architecture.kv_heads * architecture.head_size
    # Where there are fewer heads of keys than cards, each card keeps a copy.
    copies = max(1, shards // architecture.kv_heads)
    return max(0, left // (per_token * copies))


def _what_would_fit(entry: Entry, card: int, shards: int, quantize: Quantization | None) -> str:
    smaller = next(
        (
            method
            for method in ("eetq", "bitsandbytes-nf4")
            if BYTES_PER_WEIGHT[method] < BYTES_PER_WEIGHT[quantize]
            and _cached_tokens(entry, card, shards, method) >= SHORTEST
        ),
        None,
    )
    more = next(
        (
            count
            for count in (2, 4, 8)
            if count > shards
            and entry.architecture.heads % count == 0
            and _cached_tokens(entry, card, count, quantize) >= SHORTEST
        ),
        None,
    )
    size = f"{card / GIB:.0f} GB"
    ways = [f"--quantize {smaller}"] if smaller else []
    ways += [f"{more} cards of {size}"] if more else []
    hint = " or ".join(ways) or "a smaller model"
    return f"{entry.name} does not fit on {shards} x {size} in TGI; use {hint}."
