"""`python -m eval compare`, `gate` and `report`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(help="The folder of a run.")]
AcrossTemplates = Annotated[
    bool,
    typer.Option("--across-templates", help="The models have different chat templates."),
]
Html = Annotated[Path | None, typer.Option(help="Write a page of its own, too.")]


def compare(
    run_a: Folder, run_b: Folder, across_templates: AcrossTemplates = False, html: Html = None
) -> None:
    """Compare a run with another of the same suite: what does the second have over the first?

    Examples:

      python -m eval compare runs/instructions--smollm2-135m runs/instructions--out-json-answers
    """
    from chatkit.evaluation.record import read_run
    from chatkit.evaluation.report import markdown, report_of, write_html

    made = report_of([read_run(run_a), read_run(run_b)], across_templates=across_templates)
    typer.echo(markdown(made).rstrip())
    if html is not None:
        write_html(made, html)


def gate(
    run_new: Folder,
    against: Annotated[Path, typer.Option(help="The folder of the run in place.")],
    policy: Annotated[
        Path | None, typer.Option(help="What is asked for, a YAML file; see docs/evaluation.md.")
    ] = None,
    across_templates: AcrossTemplates = False,
    html: Html = None,
) -> None:
    """Decide whether a model may go live: exit 0 pass, 1 fail, 3 not enough evidence.

    Examples:

      python -m eval gate runs/new --against runs/old --policy eval/gate.yaml
    """
    from chatkit.evaluation.comparing import compare_runs
    from chatkit.evaluation.gate import Policy, judge_gate, read_policy
    from chatkit.evaluation.record import read_run
    from chatkit.evaluation.report import report_of, write_html

    old, new = read_run(against), read_run(run_new)
    compared = compare_runs(old, new, across_templates=across_templates)
    verdict = judge_gate(compared, read_policy(policy) if policy else Policy())
    made = report_of([old, new], verdict=verdict, comparison=compared)
    typer.echo(made.headline)
    for reason in verdict.reasons[1:]:
        typer.echo(reason)
    if html is not None:
        write_html(made, html)
    sys.exit(int(verdict.outcome))


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    html: Annotated[Path, typer.Option(help="The page that is written.")],
    across_templates: AcrossTemplates = False,
) -> None:
    """Write one page about one run or several; two are compared.

    Examples:

      python -m eval report runs/instructions--smollm2-135m --html report.html
    """
    from chatkit.evaluation.record import read_run
    from chatkit.evaluation.report import report_of, write_html

    read = [read_run(folder) for folder in runs]
    write_html(report_of(read, across_templates=across_templates), html)
    typer.echo(str(html))
