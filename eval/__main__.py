"""`python -m eval`: evidence, not impressions."""

import typer

from chatkit.cli.running import run_app
from eval.compare_commands import compare, gate, report
from eval.drift_command import drift
from eval.harness_command import harness
from eval.judge_command import judge
from eval.run_commands import list_, run
from eval.speed_command import speed

app = typer.Typer(
    name="eval",
    help="Ask models the questions of a suite; compare runs; decide whether one may go live.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(name="list")(list_)
for command in (run, compare, gate, judge, harness, speed, drift, report):
    app.command()(command)


def main() -> None:
    """Run the command line; see `run_app` for its exit codes."""
    run_app(app)


if __name__ == "__main__":
    main()
