"""`python -m eval judge`: a model compares the answers of two runs."""

from pathlib import Path
from typing import Annotated

import typer

from eval.compare_commands import Folder


def judge(
    run_a: Folder,
    run_b: Folder,
    judges: Annotated[list[str], typer.Option("--judge", help="Who judges; several may.")],
    streams: Annotated[int, typer.Option("--streams", min=1, help="Pairs at once.")] = 4,
    out: Annotated[Path | None, typer.Option(help="Write every verdict, as JSON lines.")] = None,
) -> None:
    """Let models judge whether the second run's answers are better than the first's.

    Each pair is judged in both orders: who wins in one order only has not won.

    Examples:

      python -m eval judge runs/conversation--a runs/conversation--b --judge openai:http://host/name
    """
    import json
    from dataclasses import asdict

    from chatkit.background import wait_for
    from chatkit.engines.opening import open_engine
    from chatkit.evaluation.comparing import check_comparable
    from chatkit.evaluation.judging import agreement, judge_runs
    from chatkit.evaluation.record import read_run

    old, new = read_run(run_a), read_run(run_b)
    check_comparable(old, new, across_templates=True)
    found = []
    for name in judges:
        engine = open_engine(name)
        try:
            found.append(wait_for(judge_runs(engine, old, new, streams=streams)))
        finally:
            wait_for(engine.close())
    for judgement in found:
        rate, even = judgement.win_rate, judgement.even_length_win_rate
        typer.echo(
            f"{judgement.judge}: {new.record.model} wins {_percent(rate)} against "
            f"{old.record.model}, {_percent(even)} at even length; "
            f"{judgement.swayed:.1%} of the verdicts followed the order, "
            f"{judgement.failed} of {len(judgement.judged)} samples have none."
        )
    for place, first in enumerate(found):
        for second in found[place + 1 :]:
            kappa = agreement(first, second)
            said = "certain by chance" if kappa is None else f"{kappa:.2f}"
            typer.echo(f"{first.judge} and {second.judge} agree by a kappa of {said}.")
    if out is not None:
        lines = [{"judge": j.judge} | asdict(one) for j in found for one in j.judged]
        out.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{share:.1%}"
