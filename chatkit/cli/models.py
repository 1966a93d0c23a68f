"""`python -m chatkit models`: what the catalogue knows, and what is on this machine."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from chatkit.settings import settings

if TYPE_CHECKING:
    from rich.table import Table

    from chatkit.catalogue import Entry
    from chatkit.evaluation.measured import MeasuredDrift

# Wider than any table: in a pipe nothing is cut, where Rich would fold at 80 columns.
_UNLIMITED = 1_000


def models(
    json: Annotated[
        bool, typer.Option("--json", help="Print every field of every model as a JSON array.")
    ] = False,
) -> None:
    """List the catalogue: size, context, licence, engines, and what is pulled already.

    Drift is how far `python -m eval drift` found a model from its reference precision.

    Example: python -m chatkit models --json
    """
    from chatkit.catalogue import catalogue

    entries = list(catalogue().values())
    if json:
        typer.echo(dumps([_fields(entry) for entry in entries], indent=2))
    else:
        _print(entries)


def count_text(count: int) -> str:
    """Write a number of weights as the field does: 135M, 6.7B, 69B."""
    millions = round(count / 1_000_000)
    if millions < 1_000:
        return f"{millions}M"
    return f"{millions / 1000:.1f}B" if millions < 10_000 else f"{millions / 1000:.0f}B"


def tokens_text(tokens: int) -> str:
    """Write a window in tokens as its publishers do: 8K, 128K."""
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)


class _Column(NamedTuple):
    """A column: its header, its cell, and whether a narrow terminal goes without it."""

    header: str
    cell: Callable[["Entry"], str]
    numeric: bool = False
    wide_only: bool = False


def _is_pulled(entry: "Entry") -> bool:
    return (settings().models / entry.name / "pulled.json").is_file()


def _drift(entry: "Entry") -> "MeasuredDrift | None":
    from chatkit.evaluation.measured import read_drift

    return read_drift(entry.name)


def _drift_text(entry: "Entry") -> str:
    found = _drift(entry)
    return f"{found.divergence:.3f} nat" if found else "-"


_COLUMNS = (
    _Column("name", lambda entry: entry.name),
    _Column("size", lambda entry: count_text(entry.parameters), numeric=True),
    _Column("context", lambda entry: tokens_text(entry.context), numeric=True),
    _Column("licence", lambda entry: entry.licence.name, wide_only=True),
    _Column("commercial", lambda entry: entry.licence.commercial),
    _Column("gated", lambda entry: "gated" if entry.gated else "-"),
    _Column("engines", lambda entry: ", ".join(entry.engines), wide_only=True),
    _Column("pulled", lambda entry: "pulled" if _is_pulled(entry) else "-"),
    _Column("drift", lambda entry: _drift_text(entry), numeric=True, wide_only=True),
)


def _fields(entry: "Entry") -> dict[str, Any]:
    return {
        **entry.model_dump(mode="json"),
        "engines": entry.engines,
        "pulled": _is_pulled(entry),
        "drift": asdict(drift) if (drift := _drift(entry)) else None,
    }


def _print(entries: Sequence["Entry"]) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = _UNLIMITED
    table = _table(_COLUMNS, entries)
    unlimited = console.options.update(max_width=_UNLIMITED)
    if console.measure(table, options=unlimited).maximum > console.width:
        table = _table([column for column in _COLUMNS if not column.wide_only], entries)
        table.caption = "A wider terminal shows licences and engines, --json everything."
    console.print(table)


def _table(columns: Sequence[_Column], entries: Sequence["Entry"]) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column.header, justify="right" if column.numeric else "left", overflow="fold"
        )
    for entry in entries:
        table.add_row(*(column.cell(entry) for column in columns))
    return table
