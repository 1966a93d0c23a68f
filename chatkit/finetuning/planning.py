"""Plans a run before anything loads: examples, tokens, steps, memory, time, and what would fit."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from chatkit.catalogue import Entry, entry_of, find
from chatkit.errors import NotEnoughMemory, NotPulled, Unsupported
from chatkit.finetuning.gathering import KINDS, gather
from chatkit.finetuning.packing import pack
from chatkit.finetuning.recipe import Recipe
from chatkit.finetuning.sources import HUB, files_of
from chatkit.finetuning.table import read_table
from chatkit.finetuning.training.arguments import Steps, processes, steps_of
from chatkit.finetuning.training.job import total_steps
from chatkit.hardware import Hardware, probe
from chatkit.loading.bases import Base, find_base
from chatkit.memory import (
    Method,
    Training,
    TrainingEstimate,
    devices_needed,
    estimate_training,
    training_verdict,
)
from chatkit.naming import parse_name

# Rows of so many tokens at once keep a card busy; a CPU is busy with one row.
BUSY_TOKENS = 8_192
# What a step reaches of what the hardware could, in floating-point operations per second: cards
# of the sizes that people ask for (half of what LLM trainers report), and a core with AVX2.
_CARD_FLOPS = {16: 20e12, 24: 40e12, 40: 100e12, 48: 60e12, 80: 150e12, 141: 280e12}
_CORE_FLOPS = 45e9
# Tokens per character and per row where no tokenizer is at hand.
_CHARACTERS_PER_TOKEN = 4.0
# A trained weight takes 6 operations per token, a frozen one 4 (Kaplan 2020, section 2.1), and
# computing activations again 2 more.
_FROZEN, _TRAINED, _AGAIN = 4, 6, 2


class Counted(NamedTuple):
    """What there is to train on.

    Args:
        rows: examples, pairs or questions.
        tokens: of all of them.
        trained_tokens: how many of them are trained.
        packed_rows: rows that a trainer sees in an epoch.
        estimated: whether tokens were guessed from characters.
    """

    rows: int
    tokens: int
    trained_tokens: int
    packed_rows: int
    estimated: bool

    @property
    def trained_share(self) -> float:
        """The share of tokens that is trained."""
        return self.trained_tokens / max(1, self.tokens)


class Choice(NamedTuple):
    """One way to run it, with its memory on one device.

    Args:
        method: full, lora or qlora.
        needed: the memory, part by part.
        devices: how many devices hold it; 0 when it does not fit.
    """

    method: Method
    needed: TrainingEstimate
    devices: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take.

    Args:
        recipe: that is planned.
        hardware: on which.
        counted: what there is to train on.
        steps: how a step is cut; None where nothing fits.
        total: how many steps there are.
        seconds: about how long they take; None where the hardware's speed is not known.
        choices: each way to run it; the recipe's first.
        advice: what would make it fit; empty when it fits.
    """

    recipe: Recipe
    hardware: Hardware
    counted: Counted
    steps: Steps | None
    total: int
    seconds: float | None
    choices: tuple[Choice, ...]
    advice: str


def plan(recipe: Recipe, hardware: Hardware | None = None) -> Plan:
    """Plan a run.

    Args:
        recipe: what to do.
        hardware: on which; None for this machine.

    Raises:
        InputError: the data cannot be used.
        Unsupported: the base's architecture is not in the catalogue, so nothing can be estimated.
    """
    hardware = hardware or probe()
    entry = _entry(recipe)
    counted = count(recipe)
    steps = choose_steps(recipe, entry, hardware, counted.trained_share)
    total = total_steps(recipe, counted.packed_rows)
    shape = steps or Steps(1, 1, True)
    methods: list[Method] = [_method(recipe)]
    methods += [each for each in ("lora", "qlora", "full") if each != methods[0]]
    choices = tuple(_choice(recipe, entry, hardware, shape, counted, each) for each in methods)
    advice = "" if steps else _advice(recipe, entry, hardware, counted)
    seconds = _seconds(recipe, entry, hardware, counted, shape) if steps else None
    return Plan(recipe, hardware, counted, steps, total, seconds, choices, advice)


def plan_steps(recipe: Recipe, base: Base, trained_share: float) -> Steps:
    """Choose how a step is cut on this machine.

    Args:
        recipe: what to do.
        base: what is tuned.
        trained_share: the share of tokens that is trained.

    Raises:
        NotEnoughMemory: not even one row at a time fits; the sentence says what would.
    """
    if base.entry is None:
        # Nothing is known of its memory, so begin with the least and the slowest.
        again = recipe.train.checkpointing
        return steps_of(recipe.train, 1, checkpointing=True if again == "auto" else again)
    hardware = probe()
    steps = choose_steps(recipe, base.entry, hardware, trained_share)
    if steps is None:
        counted = Counted(1, 1000, round(1000 * trained_share), 1, False)
        raise NotEnoughMemory(
            f"Tuning {base.name} does not fit into this machine's free memory; "
            f"{_advice(recipe, base.entry, hardware, counted)}."
        )
    return steps


def choose_steps(
    recipe: Recipe, entry: Entry, hardware: Hardware, trained_share: float
) -> Steps | None:
    """Choose the largest micro-batch that is of use and fits; checkpointing only when it must.

    Returns: None when nothing fits.
    """
    wanted = recipe.train.checkpointing
    for checkpointing in (False, True) if wanted == "auto" else (wanted,):
        for micro in _micro_batches(recipe, hardware):
            steps = steps_of(recipe.train, micro, checkpointing=checkpointing)
            training = _training(recipe, steps, trained_share)
            needed = estimate_training(entry, training, hardware.kind)
            if devices_needed(needed, hardware, entry.architecture.layers) == 1:
                return steps
    return None


def count(recipe: Recipe) -> Counted:
    """Count rows and tokens; with the base's tokenizer where it is at hand, else by characters.

    Raises:
        InputError: the data cannot be used.
    """
    try:
        base = find_base(recipe.base)
    except (NotPulled, Unsupported):
        return _guessed(recipe)
    with tempfile.TemporaryDirectory(prefix="chatkit-plan-") as folder:
        files, report = gather(recipe, base.template, Path(folder))
        lengths = list(read_table(files.train)["length"])
    packed = _packed(recipe, lengths)
    return Counted(report.train, report.tokens, report.trained_tokens, packed, False)


def _guessed(recipe: Recipe) -> Counted:
    """Guess from the size of files, without a tokenizer."""
    rows = size = 0
    for source in recipe.data.train:
        if source.path.startswith(HUB):
            raise Unsupported(
                f"The size of {source.path} is not known without its base's tokenizer; pull "
                f"{recipe.base} first."
            )
        for file in files_of(source.path):
            text = file.read_bytes()
            rows += max(1, text.count(b"\n"))
            size += len(text)
    tokens = round(size / _CHARACTERS_PER_TOKEN)
    longest = recipe.data.longest
    packed = max(1, tokens // longest) if _packs(recipe) else rows
    return Counted(rows, tokens, tokens // 2, packed, True)


def _packs(recipe: Recipe) -> bool:
    return KINDS[recipe.method] == "example" and recipe.train.packing


def _packed(recipe: Recipe, lengths: Sequence[int]) -> int:
    if not _packs(recipe):
        return len(lengths)
    return sum(1 for _ in pack(lengths, recipe.data.longest))


def _micro_batches(recipe: Recipe, hardware: Hardware) -> Iterator[int]:
    if recipe.train.micro_batch != "auto":
        yield recipe.train.micro_batch
        return
    share = max(1, recipe.train.batch // processes())
    most = 1 if hardware.kind == "cpu" else max(1, BUSY_TOKENS // recipe.data.longest)
    yield from (size for size in range(min(most, share), 0, -1) if share % size == 0)


def _method(recipe: Recipe) -> Method:
    if recipe.adapter.kind == "full":
        return "full"
    return "qlora" if recipe.quantize == "int4" else "lora"


def _training(
    recipe: Recipe, steps: Steps, trained_share: float, method: Method | None = None
) -> Training:
    # A pair is two answers to one question, each read with it; so is what RL compares.
    sides = 1 if KINDS[recipe.method] == "example" else 2
    return Training(
        method=method or _method(recipe),
        rank=recipe.adapter.rank,
        length=recipe.data.longest,
        batch=steps.micro_batch * sides,
        checkpointing=steps.checkpointing,
        trained_share=trained_share if sides == 1 else 1.0,
    )


def _choice(
    recipe: Recipe,
    entry: Entry,
    hardware: Hardware,
    steps: Steps,
    counted: Counted,
    method: Method,
) -> Choice:
    training = _training(recipe, steps, counted.trained_share, method)
    needed = estimate_training(entry, training, hardware.kind)
    fits = devices_needed(needed, hardware, entry.architecture.layers)
    return Choice(method, needed, fits if fits == 1 else 0)


def _advice(recipe: Recipe, entry: Entry, hardware: Hardware, counted: Counted) -> str:
    steps = Steps(1, recipe.train.batch, False)
    training = _training(recipe, steps, counted.trained_share)
    for longest in (recipe.data.longest, *(n for n in (1024, 512, 256) if n < recipe.data.longest)):
        for method in (_method(recipe), "qlora"):
            changed = replace(training, method=method, length=longest, checkpointing=True)
            needed = estimate_training(entry, changed, hardware.kind)
            if devices_needed(needed, hardware, entry.architecture.layers) == 1:
                return _settings(recipe, method, longest)
    judged = training_verdict(entry, hardware, replace(training, checkpointing=True))
    return f"choose a smaller base, or hardware with {judged.estimate.total >> 30} GiB or more"


def _settings(recipe: Recipe, method: Method, longest: int) -> str:
    changes = ["train.checkpointing to true", "train.micro_batch to 1"]
    if method == "qlora" and _method(recipe) != "qlora":
        changes.append("quantize to int4 with adapter.kind lora")
    if longest < recipe.data.longest:
        changes.append(f"data.longest to {longest}")
    return f"set {', '.join(changes)}"


def _seconds(
    recipe: Recipe, entry: Entry, hardware: Hardware, counted: Counted, steps: Steps
) -> float | None:
    per_token = _TRAINED if recipe.adapter.kind == "full" else _FROZEN
    per_token += _AGAIN if steps.checkpointing else 0
    if hardware.kind == "cpu":
        speed = _CORE_FLOPS * (hardware.cores or 1)
    else:
        size = round(hardware.places[0].memory / 2**30)
        known = [flops for least, flops in _CARD_FLOPS.items() if least <= size * 1.05]
        if not known:
            return None
        speed = known[-1]
    tokens = counted.tokens * recipe.train.epochs
    if recipe.train.steps:
        tokens = recipe.train.steps * recipe.train.batch * counted.tokens / counted.packed_rows
    sides = 1 if KINDS[recipe.method] == "example" else 2
    return entry.parameters * per_token * tokens * sides / speed


def _entry(recipe: Recipe) -> Entry:
    parsed = parse_name(recipe.base)
    known = entry_of(parsed.target) if parsed.kind == "hub" else None
    if parsed.kind == "catalogue":
        known = find(parsed.target)
    if known is None:
        raise Unsupported(
            f"The architecture of {recipe.base} is not in the catalogue, so its memory cannot be "
            "estimated; name an entry of it."
        )
    return known
