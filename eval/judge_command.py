"""`python -m eval judge`: a model compares the answers of two runs."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chatkit.errors import InputError
from eval.compare_commands import Folder

if TYPE_CHECKING:
    from chatkit.evaluation.judging import Judged


def judge(
    run_a: Folder,
    run_b: Folder,
    judges: Annotated[list[str], typer.Option("--judge", help="Who judges; several may.")],
    streams: Annotated[int, typer.Option("--streams", min=1, help="Pairs at once.")] = 4,
    out: Annotated[
        Path | None,
        typer.Option(help="Write each verdict as it comes, as JSON lines; a stopped one goes on."),
    ] = None,
) -> None:
    """Let models judge whether the second run's answers are better than the first's.

    Each pair is judged in both orders: who wins in one order only has not won.

    Examples:

      python -m eval judge runs/conversation--a runs/conversation--b --judge openai:http://host/name
    """
    from chatkit.background import wait_for
    from chatkit.engines.opening import MANY, open_engine
    from chatkit.evaluation.comparing import check_comparable
    from chatkit.evaluation.judging import agreement, judge_runs
    from chatkit.evaluation.record import read_run

    old, new = read_run(run_a), read_run(run_b)
    check_comparable(old, new, across_templates=True)
    found, verdicts = [], Verdicts(out)
    for name in judges:
        engine = open_engine(name, MANY)
        known, keep = verdicts.of(engine.name), partial(verdicts.keep, engine.name)
        try:
            work = judge_runs(engine, old, new, streams=streams, known=known, keep=keep)
            found.append(wait_for(work))
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


class Verdicts:
    """The file of verdicts, which grows line by line.

    Args:
        path: where it is; None keeps nothing.

    Raises:
        InputError: it holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        whole = path.read_bytes() if path and path.exists() else b""
        # A line that a crash cut off is asked for again.
        kept = whole[: whole.rfind(b"\n") + 1]
        try:
            self._lines = [json.loads(line) for line in kept.splitlines()]
        except ValueError as error:
            raise InputError(f"{path} holds no verdicts ({error}); name another file.") from None
        if path and kept != whole:
            path.write_bytes(kept)

    def of(self, judge: str) -> "dict[str, Judged]":
        """Give what a judge has said, by sample."""
        from chatkit.evaluation.judging import Judged

        try:
            return {
                line["sample"]: Judged(**{name: line[name] for name in line if name != "judge"})
                for line in self._lines
                if line["judge"] == judge
            }
        except (TypeError, KeyError) as error:
            raise InputError(
                f"{self._path} holds no verdicts ({error}); name another file."
            ) from None

    def keep(self, judge: str, judged: "Judged") -> None:
        """Write a verdict, so that it survives this process."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"judge": judge} | asdict(judged)) + "\n")


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{share:.1%}"
