"""`python -m serve`: the chat app, and engines over the wires of TGI and OpenAI."""

import typer

from chatkit.cli.running import run_app
from serve.app_command import app_command
from serve.engine_command import engine
from serve.tgi_command import tgi_command

app = typer.Typer(
    name="serve",
    help="Serve the chat app, or a model over HTTP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(name="app")(app_command)
app.command()(engine)
app.command(name="tgi-command")(tgi_command)


def main() -> None:
    """Run the command line; see `run_app` for its exit codes."""
    run_app(app)


if __name__ == "__main__":
    main()
