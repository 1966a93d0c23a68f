"""What the commands over conversations print: tables, moments, and text that is only text."""

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from json import dumps
from typing import Any
from unicodedata import category

import typer

from chatkit.errors import InputError

# These turn a line around without being seen.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_GAP = "  "


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; in a terminal the last one is cut to the width, in a pipe nothing is.

    Args:
        header: the names of the columns.
        rows: the cells.
    """
    from rich.cells import cell_len, set_cell_size

    lines = [tuple(one_line(cell) for cell in row) for row in (header, *rows)]
    widths = [max(map(cell_len, column)) for column in zip_longest(*lines, fillvalue="")]
    if sys.stdout.isatty():
        left = shutil.get_terminal_size().columns - sum(widths[:-1]) - len(_GAP) * len(widths[1:])
        widths[-1] = min(widths[-1], max(left, 20))
    for line in lines:
        cells = [_cut(cell, widths[-1]) if cell is line[-1] else cell for cell in line]
        sized = map(set_cell_size, cells, widths)
        typer.echo(_GAP.join(sized).rstrip())


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(dumps(value, indent=2, ensure_ascii=False))


def one_line(text: str) -> str:
    """Make a text one line without anything that would move the cursor or colour the screen."""
    return " ".join(safe(text).split())


def safe(text: str) -> str:
    """Take out of a text what would move the cursor or colour the screen."""
    return "".join(
        " " if (category(letter) == "Cc" and letter not in "\n\t") or letter in _TURNING else letter
        for letter in text
    )


def moment(seconds: float) -> str:
    """Write a moment for a person, in the time of this machine."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def iso(seconds: float) -> str:
    """Write a moment for a program."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def count(number: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def confirm(question: str, yes: bool) -> None:
    """Ask before what cannot be taken back.

    Args:
        question: what will happen.
        yes: it was said beforehand.

    Raises:
        InputError: nobody can be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("Nobody can be asked here, so nothing was done; give --yes to go on.")
    if not typer.confirm(question):
        typer.echo("Nothing was done.", err=True)
        raise typer.Exit(1)


def _cut(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"
