"""Runs a command line: what it raises on purpose is one sentence."""

import sys

import typer

from chatkit.errors import ChatkitError, InputError

INTERRUPTED = 130


def run_app(app: typer.Typer) -> None:
    """Run a command line; a known error is one sentence on stderr, never a stack trace.

    Exit codes: 0 done, 1 a known error, 2 bad input, 130 stopped with Ctrl-C.
    """
    try:
        app(standalone_mode=True)
    except ChatkitError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        sys.exit(INTERRUPTED)
