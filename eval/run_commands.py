"""`python -m eval list` and `run`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from chatkit.evaluation.launched import Launch
    from chatkit.evaluation.record import Run
    from chatkit.evaluation.running import Asking
    from chatkit.evaluation.suite import Questions

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
    ray: Annotated[
        str | None,
        typer.Option(help="Spread samples over this Ray cluster; `local` begins one here."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Engines on the cluster.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the runs; a stopped one goes on.")] = Path(
        "runs"
    ),
) -> None:
    """Ask models the questions of a suite, and keep every answer.

    Outgrowing one process: `accelerate launch -m eval run …` has an engine on each GPU, `--ray` an
    engine on each worker of a cluster; the numbers stay the same.

    Examples:

      python -m eval run instructions --model smollm2-135m

      python -m eval run my-suite.yaml --model smollm2-135m --model out/json-answers --passes 2

      python -m eval run my-suite.yaml --model smollm2-1.7b --ray local --workers 2
    """
    from chatkit.background import wait_for
    from chatkit.evaluation.launched import find_launch, take_one_device
    from chatkit.evaluation.running import Asking
    from chatkit.evaluation.suite import find_suite, read_suite

    launch = find_launch()
    if launch is not None:
        take_one_device()
    questions = read_suite(find_suite(suite, SUITES), limit=limit, seed=seed)
    asking, runs = Asking(passes, streams), []
    for name in model:
        folder = out / folder_name(questions.suite.name, name)
        _say(f"{name} on {questions.suite.name}, into {folder}")
        if ray is not None:
            work = _on_cluster(questions, name, folder, asking, ray, workers)
        elif launch is not None:
            work = _shared(launch, questions, name, folder, asking)
        else:
            work = _here(questions, name, folder, asking)
        runs.append(wait_for(work))
    if launch is None or launch.rank == 0:
        _tell(runs)


async def _here(questions: "Questions", model: str, folder: Path, asking: "Asking") -> "Run":
    from chatkit.engines.opening import MANY, open_engine
    from chatkit.evaluation.answering import EngineAnswering
    from chatkit.evaluation.running import evaluate

    engine = open_engine(model, MANY)
    try:
        answering = EngineAnswering(questions, engine)
        return await evaluate(questions, model, answering, folder, asking, _say)
    finally:
        await engine.close()


async def _shared(
    launch: "Launch", questions: "Questions", model: str, folder: Path, asking: "Asking"
) -> "Run":
    from chatkit.engines.opening import MANY, open_engine
    from chatkit.evaluation.answering import EngineAnswering
    from chatkit.evaluation.launched import evaluate_share

    engine = open_engine(model, MANY)
    try:
        answering = EngineAnswering(questions, engine)
        return await evaluate_share(launch, questions, model, answering, folder, asking, _say)
    finally:
        await engine.close()


async def _on_cluster(
    questions: "Questions", model: str, folder: Path, asking: "Asking", address: str, workers: int
) -> "Run":
    from importlib.util import find_spec

    from chatkit.errors import MissingExtra
    from chatkit.evaluation.running import Asking, evaluate
    from chatkit.evaluation.spreading import spread

    if find_spec("ray") is None:
        raise MissingExtra("This needs Ray; run `pip install 'chatkit-lab[ray]'`.")
    all_streams = Asking(asking.passes, asking.streams * workers)
    async with spread(questions, model, address, workers, asking.streams) as answering:
        return await evaluate(questions, model, answering, folder, all_streams, _say)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _tell(runs: "list[Run]") -> None:
    from chatkit.evaluation.report import markdown, report_of

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
