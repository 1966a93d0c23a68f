"""The report: verdict first, then figures, slices, the worst losses, and how to do it again."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from chatkit.evaluation.comparing import Comparison, compare_runs, noise_floor
from chatkit.evaluation.gate import Verdict
from chatkit.evaluation.record import Answer, Run
from chatkit.stats.intervals import Estimate, bootstrap_mean

TEMPLATE = Path(__file__).with_name("report.html.jinja")
_WORST = 10


@dataclass(frozen=True, slots=True)
class Row:
    """A run as a line of the table.

    Args:
        run: which.
        score: its mean with an interval; None when nothing was answered.
        failed: answers that failed.
        tokens_per_second: the median over answers, while several were written at once.
        first_token_seconds: the median.
        floor: the share of samples whose score changed when asked again; None when none was.
    """

    run: Run
    score: Estimate | None
    failed: int
    tokens_per_second: float
    first_token_seconds: float
    floor: float | None


@dataclass(frozen=True, slots=True)
class Loss:
    """A sample that a new model does worse on, with both answers.

    Args:
        sample: its id.
        difference: new less old.
        old: the answer before.
        new: the answer now.
    """

    sample: str
    difference: float
    old: Answer
    new: Answer


@dataclass(frozen=True, slots=True)
class Report:
    """What a report tells.

    Args:
        rows: one for each run.
        comparison: of the last run with the first; None where they cannot be compared.
        verdict: the gate's; None where no policy was given.
    """

    rows: tuple[Row, ...]
    comparison: Comparison | None = None
    verdict: Verdict | None = None

    @property
    def losses(self) -> list[Loss]:
        """The samples that lost most, with both answers."""
        compared = self.comparison
        if compared is None:
            return []
        return [
            Loss(
                change.sample,
                change.difference,
                _first_answer(compared.old, change.sample),
                _first_answer(compared.new, change.sample),
            )
            for change in compared.worst[:_WORST]
        ]

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        if self.verdict is not None:
            word = {0: "Pass", 1: "Fail", 3: "Not enough evidence"}[int(self.verdict.outcome)]
            return f"{word}. {self.verdict.reasons[0]}"
        if self.comparison is not None:
            return compared_sentence(self.comparison)
        best = max(self.rows, key=lambda row: row.score.value if row.score else -1.0)
        if best.score is None:
            return "Nothing was answered."
        return f"{best.run.record.model} scores {percent(best.score)} on {best.run.record.suite}."


def report_of(
    runs: list[Run],
    *,
    verdict: Verdict | None = None,
    comparison: Comparison | None = None,
    across_templates: bool = False,
) -> Report:
    """Collect what a report of some runs tells.

    Args:
        runs: of one suite each; the last of two is compared with the first.
        verdict: the gate's.
        comparison: made already; None compares two runs here.
        across_templates: as in `compare_runs`.

    Raises:
        InputError: two runs asked different questions.
    """
    if comparison is None and len(runs) == 2:
        comparison = compare_runs(*runs, across_templates=across_templates)
    return Report(tuple(map(_row, runs)), comparison, verdict)


def compared_sentence(comparison: Comparison) -> str:
    """Say in one sentence what a comparison found."""
    gain = comparison.gain
    new, old = comparison.new.record.model, comparison.old.record.model
    if gain.low > 0:
        found = f"{new} is better than {old}"
    elif gain.high < 0:
        found = f"{new} is worse than {old}"
    else:
        found = f"No difference between {new} and {old} is shown"
    p_value = "" if comparison.p_value is None else f", McNemar p = {comparison.p_value:.4f}"
    return (
        f"{found}: {gain.value:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}] "
        f"over {gain.pairs} pairs{p_value}."
    )


def percent(estimate: Estimate) -> str:
    """Write a share with its interval."""
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def write_html(report: Report, path: Path) -> None:
    """Write one file that needs no other; whatever a model said in it is text.

    Args:
        report: what it tells.
        path: of the file.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text("utf-8"))
    text = template.render(
        report=report,
        percent=percent,
        memory_text=memory_text,
        bars=list(_bars(report)),
        lineage=[json.dumps(row.run.record.made, indent=2, sort_keys=True) for row in report.rows],
    )
    path.write_text(text, "utf-8")


def markdown(report: Report) -> str:
    """Write the same for a pull request or a wiki."""
    lines = [f"# {report.headline}", ""]
    columns = "model, suite, score, samples, failed, tokens/s, first token, memory, floor"
    lines += [f"| {columns.replace(', ', ' | ')} |", "|---" * len(columns.split(", ")) + "|"]
    for row in report.rows:
        record = row.run.record
        cells = [
            record.model,
            record.suite,
            percent(row.score) if row.score else "none",
            str(record.samples),
            str(row.failed),
            f"{row.tokens_per_second:.0f}",
            f"{row.first_token_seconds:.2f} s",
            memory_text(row),
            "not measured" if row.floor is None else f"{row.floor:.1%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if report.verdict:
        lines += ["", *(f"- {reason}" for reason in report.verdict.reasons)]
    if report.comparison:
        lines += ["", "| slice | gain | pairs |", "|---|---|---|"]
        for label, gain in report.comparison.slices.items():
            lines.append(f"| {label} | {_signed(gain)} | {gain.pairs} |")
    return "\n".join(lines) + "\n"


def memory_text(row: Row) -> str:
    """Write the memory that a run's engine held; servers do not tell theirs."""
    memory = row.run.record.made.get("memory_bytes")
    return f"{memory / 1e6:,.0f} MB" if memory else "not told"


def _row(run: Run) -> Row:
    answered = [answer for answer in run.answers.values() if not answer.error]
    scores = list(run.scores.values())
    floor = noise_floor(run)
    speeds = [a.completion_tokens / a.seconds for a in answered if a.seconds > 0]
    return Row(
        run,
        bootstrap_mean(scores) if scores else None,
        len(run.failed),
        median(speeds) if speeds else 0.0,
        median([a.first_token_seconds for a in answered]) if answered else 0.0,
        None if floor is None else floor.changed,
    )


def _bars(report: Report) -> Iterator[dict[str, Any]]:
    """Give what the plot draws: each run's score, then each slice's gain, in parts of 100."""
    for row in report.rows:
        if row.score:
            yield _bar(row.run.record.model, row.score, 0.0, 1.0, percent(row.score))
    if report.comparison is None:
        return
    gains = report.comparison.slices
    widest = max((abs(end) for g in gains.values() for end in (g.low, g.high)), default=0.0)
    for label, gain in gains.items():
        yield _bar(label, gain, -(widest or 1.0), widest or 1.0, _signed(gain))


def _bar(label: str, estimate: Estimate, least: float, most: float, said: str) -> dict[str, Any]:
    def place(value: float) -> float:
        return round(100 * (value - least) / (most - least), 2)

    return {
        "label": label,
        "low": place(estimate.low),
        "high": place(estimate.high),
        "value": place(estimate.value),
        "said": said,
        "zero": place(0.0),
    }


def _signed(gain: Estimate) -> str:
    return f"{gain.value:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}]"


def _first_answer(run: Run, sample: str) -> Answer:
    return next(answer for (name, _), answer in run.answers.items() if name == sample)
