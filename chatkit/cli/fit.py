"""`python -m chatkit fit`: whether a model fits on this machine, and what would make it fit."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from chatkit.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from chatkit.catalogue import Entry
    from chatkit.hardware import Hardware
    from chatkit.memory import Load, Quantization, Training, Verdict, Workload

# Wider than any table: in a pipe nothing is cut, where Rich would fold at 80 columns.
_UNLIMITED = 1_000
_EXAMPLE_TOKENS = 1_024


def fit(
    name: Annotated[str, typer.Argument(help="A catalogue name, perhaps name@engine.")],
    quantize: Annotated[
        str | None,
        typer.Option(help="none, int8, int4 or q4; what the model loads by default if not given."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(help="Tokens per conversation; the model's own, at most 8192, if not given."),
    ] = None,
    batch: Annotated[int, typer.Option(help="How many conversations run at once.")] = 1,
    hardware: Annotated[
        str | None, typer.Option(help="24GB, 80GB, 2x80GB, ...; this machine if not given.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print every number, in bytes, as a JSON object.")
    ] = False,
) -> None:
    """Estimate memory for answering and for fine-tuning, and say whether the model fits.

    The exit code is 0 whatever the answer is: the answer is in the last line, and in "fits" with
    --json.

    Example: python -m chatkit fit llama-2-7b-chat --hardware 24GB
    """
    from chatkit.hardware import named_hardware, probe
    from chatkit.memory import Workload

    entry, engine = _model(name)
    workload = Workload(_quantization(quantize), context, batch, engine)
    place = named_hardware(hardware) if hardware else probe()
    report = _report(entry, workload, place)
    if json:
        typer.echo(dumps(_fields(report), indent=2))
    else:
        _print(report)


class _Answering(NamedTuple):
    """A row of the table about answering."""

    quantization: "Quantization"
    load: "Load"
    verdict: "Verdict"


class _Tuning(NamedTuple):
    """A row of the table about fine-tuning."""

    training: "Training"
    verdict: "Verdict"


class _Report(NamedTuple):
    """Everything that is printed."""

    entry: "Entry"
    hardware: "Hardware"
    load: "Load"
    asked: "Verdict"
    answering: list[_Answering]
    tuning: list[_Tuning]


def _model(name: str) -> "tuple[Entry, Any]":
    from chatkit.catalogue import find
    from chatkit.naming import parse_name

    parsed = parse_name(name)
    if parsed.kind != "catalogue":
        raise InputError(f"{name} is not in the catalogue, so its sizes are unknown; give a name.")
    return find(parsed.target), parsed.engine


def _quantization(text: str | None) -> "Quantization | None":
    from chatkit.memory import QUANTIZATIONS

    for name in QUANTIZATIONS:
        if name == text:
            return name
    if text is None:
        return None
    raise InputError(f"No quantisation is called {text!r}; use {', '.join(QUANTIZATIONS)}.")


def _report(entry: "Entry", workload: "Workload", hardware: "Hardware") -> _Report:
    from chatkit.memory import Training, load_of, offered, training_verdict, verdict

    asked = verdict(entry, hardware, workload)
    length = min(_EXAMPLE_TOKENS, entry.context)
    trainings = [Training(method, length=length) for method in ("lora", "qlora")]
    if "transformers" not in entry.engines:
        trainings = []
    return _Report(
        entry=entry,
        hardware=hardware,
        load=load_of(entry, workload, hardware.kind),
        asked=asked,
        answering=[
            _answering(entry, hardware, workload, quantization)
            for quantization in offered(entry, workload.engine)
        ],
        tuning=[
            _Tuning(training, training_verdict(entry, hardware, training)) for training in trainings
        ],
    )


def _answering(
    entry: "Entry", hardware: "Hardware", workload: "Workload", quantization: "Quantization"
) -> _Answering:
    from chatkit.memory import load_of, verdict

    changed = replace(workload, quantization=quantization)
    load = load_of(entry, changed, hardware.kind)
    return _Answering(quantization, load, verdict(entry, hardware, changed))


def _sentence(report: _Report) -> str:
    """Answer the question in one sentence."""
    from chatkit.hardware import memory_text
    from chatkit.memory import usable

    needs = memory_text(report.asked.estimate.total)
    room = memory_text(usable(report.hardware))
    subject = f"{report.entry.name} ({report.load.storage}, {report.load.engine})"
    if report.asked.devices:
        return f"{subject} {report.asked}: it needs about {needs} of {room} that can be used."
    help_ = f"it {report.asked}" if report.asked.advice else "nothing that is offered makes it fit"
    return f"{subject} does not fit: it needs about {needs} and {room} can be used; {help_}."


def _print(report: _Report) -> None:
    from rich.console import Console

    from chatkit.cli.models import count_text

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    load = report.load
    console.print(f"{report.entry.title}: {count_text(report.entry.parameters)} weights")
    console.print(f"Hardware: {report.hardware}")
    for note in report.hardware.notes:
        console.print(f"Note: {note}")
    console.print(f"\nTo answer, with {load.context} tokens of context, {load.batch} at once:")
    _print_table(console, [_answering_cells(row) for row in report.answering])
    if report.tuning:
        training = report.tuning[0].training
        console.print(
            f"\nTo fine-tune on examples of {training.length} tokens, {training.batch} at once, "
            f"with rank {training.rank} and gradient checkpointing:"
        )
        _print_table(console, [_tuning_cells(row) for row in report.tuning])
    console.print(f"\n{_sentence(report)}")


class _Cells(NamedTuple):
    """A row before it is laid out: words, sizes by their headers, and the verdict."""

    words: dict[str, str]
    sizes: dict[str, int]
    verdict: "Verdict"


def _answering_cells(row: _Answering) -> _Cells:
    needed = asdict(row.verdict.estimate)
    words = {"quantize": row.quantization, "runs as": f"{row.load.storage}, {row.load.engine}"}
    sizes = {"weights": needed["weights"], "KV cache": needed["kv_cache"]}
    return _Cells(words, {**sizes, **_rest(needed)}, row.verdict)


def _tuning_cells(row: _Tuning) -> _Cells:
    needed = asdict(row.verdict.estimate)
    learning = needed["adapter"] + needed["gradients"] + needed["optimiser"]
    sizes = {"weights": needed["weights"], "adapter, AdamW": learning}
    return _Cells({"method": row.training.method}, {**sizes, **_rest(needed)}, row.verdict)


def _rest(needed: dict[str, int]) -> dict[str, int]:
    return {"activations": needed["activations"], "overhead": needed["overhead"]}


def _print_table(console: "Console", rows: Sequence[_Cells]) -> None:
    """Print a table; a narrow terminal gets activations and overhead in one column."""
    unlimited = console.options.update(max_width=_UNLIMITED)
    table = _table(rows)
    if console.measure(table, options=unlimited).maximum > console.width:
        table = _table([_narrow(row) for row in rows])
    console.print(table)


def _narrow(row: _Cells) -> _Cells:
    sizes = dict(row.sizes)
    other = sizes.pop("activations") + sizes.pop("overhead")
    words = {header: word.partition(",")[0] for header, word in row.words.items()}
    return _Cells(words, {**sizes, "other": other}, row.verdict)


def _table(rows: Sequence[_Cells]) -> "Table":
    from rich.table import Table

    from chatkit.hardware import memory_text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for header in rows[0].words:
        table.add_column(header)
    for header in (*rows[0].sizes, "total"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in rows:
        sizes = (*row.sizes.values(), row.verdict.estimate.total)
        cells = (*row.words.values(), *map(memory_text, sizes), str(row.verdict))
        table.add_row(*cells)
    return table


def _fields(report: _Report) -> dict[str, Any]:
    from chatkit.memory import usable

    return {
        "model": report.entry.name,
        "hardware": {**asdict(report.hardware), "usable": usable(report.hardware)},
        **asdict(report.load),
        "fits": report.asked.devices > 0,
        **_verdict_fields(report.asked),
        "answer": _sentence(report),
        "inference": [
            {"quantize": row.quantization, **asdict(row.load), **_verdict_fields(row.verdict)}
            for row in report.answering
        ],
        "training": [
            {**asdict(row.training), **_verdict_fields(row.verdict)} for row in report.tuning
        ],
    }


def _verdict_fields(verdict: "Verdict") -> dict[str, Any]:
    return {
        "outcome": verdict.outcome,
        "advice": verdict.advice,
        "devices": verdict.devices,
        "estimate": {**asdict(verdict.estimate), "total": verdict.estimate.total},
    }
