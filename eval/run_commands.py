"""`python -m eval list` and `run`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

SUITES = Path(__file__).parent / "suites"


def list_() -> None:
    """Show the suites that come along.

    Examples:

      python -m eval list
    """
    from rich.console import Console
    from rich.table import Table

    from chatkit.evaluation.suite import read_suite

    table = Table(box=None, pad_edge=False)
    for name in ("suite", "samples", "what it measures"):
        table.add_column(name)
    for path in sorted(SUITES.glob("*.yaml")):
        questions = read_suite(path)
        table.add_row(path.stem, str(len(questions.samples)), questions.suite.about)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def run(
    suite: Annotated[str, typer.Argument(help="A suite that comes along, or a YAML file.")],
    model: Annotated[list[str], typer.Option("--model", help="Who answers; several, in turn.")],
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many samples, drawn by the seed.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="In place of the suite's.")] = None,
    passes: Annotated[
        int, typer.Option(min=1, help="Ask each so often; 2 tells the noise floor.")
    ] = 1,
    streams: Annotated[int, typer.Option(min=1, help="Samples asked at once.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder of the runs; a stopped one goes on.")] = Path(
        "runs"
    ),
) -> None:
    """Ask models the questions of a suite, and keep every answer.

    Examples:

      python -m eval run instructions --model smollm2-135m

      python -m eval run my-suite.yaml --model smollm2-135m --model out/json-answers --passes 2
    """
    from chatkit.background import wait_for
    from chatkit.engines.opening import open_engine
    from chatkit.evaluation.report import markdown, report_of
    from chatkit.evaluation.running import Asking, evaluate
    from chatkit.evaluation.suite import find_suite, read_suite

    questions = read_suite(find_suite(suite, SUITES), limit=limit, seed=seed)
    runs = []
    for name in model:
        engine = open_engine(name)
        folder = out / folder_name(questions.suite.name, name)
        typer.echo(f"{name} on {questions.suite.name}, into {folder}", err=True)
        work = evaluate(
            questions,
            name,
            engine,
            folder,
            Asking(passes, streams),
            say=lambda line: typer.echo(line, err=True),
        )
        try:
            runs.append(wait_for(work))
        finally:
            wait_for(engine.close())
    for made in runs:
        typer.echo(markdown(report_of([made])).rstrip())
        typer.echo(str(made.folder))
    if any(made.record.status != "complete" for made in runs):
        typer.echo("error: a run is not complete; run the same command to go on.", err=True)
        sys.exit(1)


def folder_name(suite: str, model: str) -> str:
    """Name a run's folder by its suite and its model."""
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in model)
    return f"{suite}--{plain.strip('-.')}"
