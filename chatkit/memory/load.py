"""A load: which engine runs a model, how its weights are stored, and how much it works on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from chatkit.catalogue import EngineName, Entry, Precision
from chatkit.errors import InputError, Unsupported
from chatkit.hardware import Kind

Quantization = Literal["none", "int8", "int4", "q4"]
Storage = Precision | Literal["int8", "nf4"]
_Choice = tuple[EngineName, Storage]

QUANTIZATIONS: tuple[Quantization, ...] = ("none", "int8", "int4", "q4")
DEFAULT_CONTEXT = 8192
# What transformers computes in: 32 bits on a CPU, 16 elsewhere.
_FULL: Mapping[Kind, Storage] = {"cpu": "f32", "cuda": "bf16", "mps": "f16"}


@dataclass(frozen=True, slots=True)
class Workload:
    """What somebody wants to do with a model.

    Args:
        quantization: none for 16 or 32 bits, int8 (torchao) or int4 (bitsandbytes' NF4) in the
            transformers engine, q4 for a 4-bit GGUF in the embedded engine; None for what the
            model's default engine loads.
        context: the tokens of one conversation; None takes the model's own, at most 8,192.
        batch: how many conversations run at once.
        engine: the engine asked for; None for the first that has the quantisation.
    """

    quantization: Quantization | None = None
    context: int | None = None
    batch: int = 1
    engine: EngineName | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """A workload with everything decided.

    Args:
        engine: the engine that runs it.
        storage: how the weights are stored: a precision, int8 (torchao) or nf4 (bitsandbytes).
        context: the tokens of one conversation.
        batch: how many conversations run at once.
        kind: the kind of device that it runs on.
    """

    engine: EngineName
    storage: Storage
    context: int
    batch: int = 1
    kind: Kind = "cpu"


def load_of(entry: Entry, workload: Workload, kind: Kind) -> Load:
    """Decide how a workload runs on a kind of device.

    Raises:
        InputError: the context or the batch is out of range.
        Unsupported: no file of the model can be loaded that way.
    """
    context = min(entry.context, DEFAULT_CONTEXT) if workload.context is None else workload.context
    if not 1 <= context <= entry.context:
        raise InputError(
            f"The context is {context} tokens; {entry.name} takes 1 to {entry.context}."
        )
    if workload.batch < 1:
        raise InputError(f"The batch is {workload.batch}; give at least one conversation.")
    engine, storage = _choose(entry, workload, kind)
    return Load(engine, storage, context, workload.batch, kind)


def base_bytes(storage: Storage, kind: Kind) -> int:
    """Give the bytes per number that transformers computes with, and keeps whole tensors in."""
    return 4 if storage == "f32" or (storage == "int8" and kind == "cpu") else 2


def is_quantized(storage: Storage) -> bool:
    """Say whether weights are stored in fewer than 16 bits."""
    return storage not in ("f32", "bf16", "f16")


def offered(entry: Entry, engine: EngineName | None = None) -> tuple[Quantization, ...]:
    """List the quantisations in which the model can be loaded, on one engine or on any."""
    choices = _choices(entry, "cpu")
    return tuple(
        name
        for name in QUANTIZATIONS
        if any(engine in (None, choice_engine) for choice_engine, _ in choices[name])
    )


def _choose(entry: Entry, workload: Workload, kind: Kind) -> _Choice:
    choices = _choices(entry, kind)
    asked = choices[workload.quantization] if workload.quantization else _defaults(entry, kind)
    for engine, storage in asked:
        if workload.engine in (None, engine):
            return engine, storage
    on = f" on {workload.engine}" if workload.engine else ""
    how = f" with {workload.quantization} weights" if workload.quantization else ""
    raise Unsupported(
        f"{entry.name} cannot be loaded{how}{on}: its publisher's files are for "
        f"{' and '.join(entry.engines)}; choose one of {', '.join(offered(entry))}."
    )


def _choices(entry: Entry, kind: Kind) -> dict[Quantization, list[_Choice]]:
    embedded = _embedded_storage(entry)
    choices: dict[Quantization, list[_Choice]] = {
        "none": [("llamacpp", embedded)] if embedded and not is_quantized(embedded) else [],
        "int8": [],
        "int4": [],
        "q4": [("llamacpp", storage) for storage in _four_bit_files(entry)],
    }
    if "transformers" in entry.engines:
        choices["none"].append(("transformers", _FULL[kind]))
        choices["int8"].append(("transformers", "int8"))
        choices["int4"].append(("transformers", "nf4"))
    return choices


def _defaults(entry: Entry, kind: Kind) -> list[_Choice]:
    """List what each engine loads when nobody says how, the default engine first."""
    storages = {"llamacpp": _embedded_storage(entry), "transformers": _FULL[kind]}
    return [(engine, storage) for engine in entry.engines if (storage := storages[engine])]


def _embedded_storage(entry: Entry) -> Storage | None:
    """Give the precision in which the embedded engine runs the model, None where it cannot."""
    if "llamacpp" not in entry.engines:
        return None
    return entry.run_precision or next(s.precision for s in entry.sources if s.kind != "hub")


def _four_bit_files(entry: Entry) -> list[Storage]:
    precisions = [source.precision for source in entry.sources if source.kind != "hub"]
    return [precision for precision in precisions if precision.startswith("q4")]
