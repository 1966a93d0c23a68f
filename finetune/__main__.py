"""`python -m finetune`: from conversations to an adapter that one can trust."""

import typer

from chatkit.cli.running import run_app
from finetune.adapter_commands import export, merge, verify, who
from finetune.plan_command import plan
from finetune.preview_command import preview
from finetune.train_commands import METHODS, train_command

app = typer.Typer(
    name="finetune",
    help="Tune a model by a recipe; prove what is trained; bring the result to where it serves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for method, help_ in METHODS.items():
    app.command(name=method, help=help_)(train_command(method))
for command in (plan, preview, merge, export, verify, who):
    app.command()(command)


def main() -> None:
    """Run the command line; see `run_app` for its exit codes."""
    run_app(app)


if __name__ == "__main__":
    main()
