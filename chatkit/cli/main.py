"""The door of the command line: the list of commands, and what a person sees on failure."""

import sys

import typer

from chatkit.cli.chat import chat
from chatkit.cli.conversations import conversations
from chatkit.cli.db import db
from chatkit.cli.fit import fit
from chatkit.cli.models import models
from chatkit.cli.pull import pull
from chatkit.errors import ChatkitError, InputError

INTERRUPTED = 130

app = typer.Typer(
    name="chatkit",
    help="Choose, pull and talk to open chat models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(models)
app.command()(fit)
app.command()(pull)
app.command()(chat)
app.add_typer(conversations, name="conversations")
app.add_typer(db, name="db")


def main() -> None:
    """Run the command line; a known error is one sentence on stderr, never a stack trace.

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
