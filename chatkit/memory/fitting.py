"""Whether a model fits, on one device or over several, and what would make it fit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from chatkit.catalogue import Entry
from chatkit.hardware import Hardware
from chatkit.memory.inference import MemoryEstimate, estimate
from chatkit.memory.load import Workload, load_of, offered
from chatkit.memory.training import Training, TrainingEstimate, estimate_training

Outcome = Literal["fits", "fits with", "does not fit"]
Estimate = MemoryEstimate | TrainingEstimate

# The share of free memory that stays free: for fragments, and for what else the machine does.
HEADROOM = 0.10
_SHORTEST = 512


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a workload fits, with the estimate that says so.

    Args:
        outcome: fits; fits with the advice; or does not fit.
        devices: over how many devices its layers are split when it fits as asked, else 0.
        advice: command line options or words that make it fit; empty where nothing does, or need.
        estimate: the memory of what was asked, if one device were large enough.
    """

    outcome: Outcome
    devices: int
    advice: str
    estimate: Estimate

    def __str__(self) -> str:
        """The verdict in a few words."""
        return f"{self.outcome} {self.advice}" if self.advice else self.outcome


def verdict(entry: Entry, hardware: Hardware, workload: Workload | None = None) -> Verdict:
    """Judge whether a model fits while it answers.

    Advice is sought in this order: layers over several cards, less precise weights, a shorter
    context, both.

    Raises:
        InputError: the context or the batch is out of range.
        Unsupported: no file of the model can be loaded that way.
    """
    workload = workload or Workload()
    load = load_of(entry, workload, hardware.kind)
    asked = estimate(entry, load)
    devices = devices_needed(asked, hardware, entry.architecture.layers)
    if devices:
        return _fits(devices, asked)
    advice = _smaller(entry, hardware, workload, load.context)
    return Verdict("fits with" if advice else "does not fit", 0, advice, asked)


def training_verdict(entry: Entry, hardware: Hardware, training: Training) -> Verdict:
    """Judge whether a fine-tuning run fits.

    Advice is sought in this order: layers over several cards, checkpointing, QLoRA, shorter
    examples.

    Raises:
        InputError: the examples are longer than the model's window.
        Unsupported: the model's adapter targets are not known here.
    """
    asked = estimate_training(entry, training, hardware.kind)
    layers = entry.architecture.layers
    devices = devices_needed(asked, hardware, layers)
    if devices:
        return _fits(devices, asked)
    for advice, changed in _lighter(training):
        if devices_needed(estimate_training(entry, changed, hardware.kind), hardware, layers):
            return Verdict("fits with", 0, advice, asked)
    return Verdict("does not fit", 0, "", asked)


def devices_needed(needed: Estimate, hardware: Hardware, layers: int) -> int:
    """Give the fewest devices that hold a model, its layers split between them; 0 if none do.

    Layers are whole, share the weights and the cache evenly, and each device has activations and
    overhead of its own. The headroom stays free.
    """
    own = needed.activations + needed.overhead
    shared = needed.total - own
    held = 0
    for count, device in enumerate(hardware.places, start=1):
        room = int(device.free * (1 - HEADROOM)) - own
        # layers x shared bytes per layer, without rounding
        held += max(room, 0) * layers // shared if shared else layers
        if held >= layers:
            return count
    return 0


def usable(hardware: Hardware) -> int:
    """Give the free bytes of all places that models go to, less the headroom."""
    return int(hardware.free * (1 - HEADROOM))


def _fits(devices: int, needed: Estimate) -> Verdict:
    if devices == 1:
        return Verdict("fits", 1, "", needed)
    return Verdict("fits with", devices, f"its layers over {devices} cards", needed)


def _smaller(entry: Entry, hardware: Hardware, workload: Workload, context: int) -> str:
    """Find options under which the workload fits; empty when none do."""

    def fits(changed: Workload) -> bool:
        needed = estimate(entry, load_of(entry, changed, hardware.kind))
        return devices_needed(needed, hardware, entry.architecture.layers) > 0

    finer = [name for name in offered(entry) if name not in ("none", workload.quantization)]
    others = [replace(workload, quantization=name, engine=None) for name in finer]
    for other in others:
        if fits(other):
            return f"--quantize {other.quantization}"
    for other in (workload, *others):
        for shorter in _shorter(context):
            if fits(replace(other, context=shorter)):
                quantize = f"--quantize {other.quantization} " if other is not workload else ""
                return f"{quantize}--context {shorter}"
    return ""


def _shorter(context: int) -> Iterator[int]:
    """Halve a context again and again, down to 512 tokens."""
    while (context := context // 2) >= _SHORTEST:
        yield context


def _lighter(training: Training) -> list[tuple[str, Training]]:
    """List the changes that save memory, the least costly first, each on top of the last."""
    changes: list[tuple[str, Training]] = []
    if not training.checkpointing:
        training = replace(training, checkpointing=True)
        changes.append(("gradient checkpointing", training))
    if training.method != "qlora":
        training = replace(training, method="qlora")
        changes.append(("QLoRA", training))
    for length in (1024, 512, 256):
        if length < training.length:
            changes.append((f"{_words(training)}{length} tokens", replace(training, length=length)))
    return changes


def _words(training: Training) -> str:
    return "QLoRA and examples of " if training.method == "qlora" else "examples of "
