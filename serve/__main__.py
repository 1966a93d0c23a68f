"""`python -m serve`: engines over the wires of TGI and OpenAI."""

import sys

import typer

from chatkit.errors import ChatkitError, InputError
from serve.engine_command import engine
from serve.tgi_command import tgi_command

app = typer.Typer(
    name="serve",
    help="Serve a model over HTTP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(engine)
app.command(name="tgi-command")(tgi_command)


def main() -> None:
    """Run the command line; a known error is one sentence on stderr, never a stack trace."""
    try:
        app()
    except ChatkitError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)


if __name__ == "__main__":
    main()
