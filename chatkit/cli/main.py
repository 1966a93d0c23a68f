"""The door of the command line: the list of commands, and what a person sees on failure."""

import typer

from chatkit.cli.chat import chat
from chatkit.cli.conversations import conversations
from chatkit.cli.db import db
from chatkit.cli.fit import fit
from chatkit.cli.models import models
from chatkit.cli.pull import pull
from chatkit.cli.running import run_app
from chatkit.cli.users import users

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
app.add_typer(users, name="users")


def main() -> None:
    """Run the command line; see `run_app` for its exit codes."""
    run_app(app)
