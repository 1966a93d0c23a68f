"""Runs the command line inside the test, as a person would see it."""

from typing import Any, NamedTuple

from typer.testing import CliRunner

from chatkit.cli.main import app
from chatkit.errors import ChatkitError, InputError


class Said(NamedTuple):
    """What a command has said, and its exit code."""

    code: int
    out: str
    error: str


def run(*arguments: str) -> Said:
    """Run `python -m chatkit …` in a pipe; a known error is what `main` makes of it."""
    result: Any = CliRunner().invoke(app, list(arguments))
    error = result.exception
    if isinstance(error, ChatkitError):
        code = 2 if isinstance(error, InputError) else 1
        return Said(code, result.stdout, f"{result.stderr}error: {error}\n")
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return Said(result.exit_code, result.stdout, result.stderr)


def ran(*arguments: str) -> str:
    """Run a command that succeeds, and give what it printed."""
    said = run(*arguments)
    assert said.code == 0, said.error
    return said.out
