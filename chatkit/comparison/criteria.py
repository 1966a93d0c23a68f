"""Models by what people choose them for: one table and one radar, each figure with its evidence."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from chatkit.catalogue import Licence, find
from chatkit.comparison.result import Comparison
from chatkit.errors import ChatkitError
from chatkit.evaluation.record import RECORD, Run, read_run
from chatkit.evaluation.report import report_of, write_html
from chatkit.naming import parse_name
from chatkit.stats.intervals import bootstrap_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

# What is asked, and the suite that measures it.
QUALITIES = {
    "conversation": "conversation",
    "instructions": "instructions",
    "reasoning": "reasoning",
    "knowledge": "knowledge",
}
# Questions with choices need an engine that tells likelihoods.
SCORED = {"knowledge": "@transformers"}
NAMES = (*QUALITIES, "speed", "memory", "licence")
_LICENCES = {"yes": 1.0, "conditions": 0.5, "no": 0.0}


@dataclass(frozen=True, slots=True)
class Cell:
    """What is known of a model by one criterion.

    Args:
        said: the figure as people read it.
        share: the same from 0 to 1, 1 is best; None when nobody measured it.
        evidence: where it comes from: a page, or a command that would measure it.
        link: of the page; empty where there is none.
    """

    said: str
    share: float | None
    evidence: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Criteria:
    """Models by all criteria.

    Args:
        cells: by model and criterion.
    """

    cells: Mapping[str, Mapping[str, Cell]]

    @property
    def frame(self) -> "DataFrame":
        """The figures from 0 to 1, one row for each model."""
        from pandas import DataFrame

        rows = {
            model: {name: cell.share for name, cell in mine.items()}
            for model, mine in self.cells.items()
        }
        return DataFrame.from_dict(rows, orient="index", columns=list(NAMES))

    def plot(self) -> "Figure":
        """Draw all models in one radar; what nobody measured is a gap."""
        import numpy
        from matplotlib import pyplot

        angles = numpy.linspace(0, 2 * numpy.pi, len(NAMES), endpoint=False)
        picture, axes = pyplot.subplots(
            figsize=(7, 4.5), subplot_kw={"projection": "polar"}, layout="constrained"
        )
        for model, mine in self.cells.items():
            known = [mine[name].share for name in NAMES]
            shares = [numpy.nan if share is None else share for share in known]
            axes.plot([*angles, angles[0]], [*shares, shares[0]], marker="o", label=model)
        axes.set_xticks(angles, NAMES)
        axes.set_ylim(0, 1.05)
        axes.set_yticks([0.25, 0.5, 0.75, 1.0], [])
        picture.legend(loc="outside right upper", frameon=False, fontsize=9)
        # The cell shows what it returns, and pyplot would show it once more.
        pyplot.close(picture)
        return picture

    def to_html(self) -> str:
        """Give the table as HTML, each cell with a link to where it comes from."""
        head = "".join(f"<th>{name}</th>" for name in ("model", *NAMES))
        rows = "".join(
            f"<tr><th>{escape(model)}</th>{''.join(_html(mine[name]) for name in NAMES)}</tr>"
            for model, mine in self.cells.items()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _repr_html_(self) -> str:
        return self.to_html()


def weigh(comparison: Comparison, runs: Path) -> Criteria:
    """Gather what is known of a comparison's models; a report is written beside each run.

    Args:
        comparison: tells speed and memory.
        runs: the folder of the runs that tell quality.
    """
    found = _runs(runs)
    figures = {model: comparison.figures(model) for model in comparison.models}
    fastest = max(each["tokens/s"] for each in figures.values())
    known = [each["memory (MB)"] for each in figures.values() if each["memory (MB)"]]
    cells: dict[str, dict[str, Cell]] = {}
    for model in comparison.models:
        cells[model] = {name: _quality(model, suite, found) for name, suite in QUALITIES.items()}
        speed, memory = figures[model]["tokens/s"], figures[model]["memory (MB)"]
        cells[model] |= {
            "speed": _measured(f"{speed:g} tokens/s", speed, speed / (fastest or 1)),
            "memory": _measured(f"{memory:,} MB", memory, min(known, default=0) / (memory or 1)),
            "licence": _licence(model),
        }
    return Criteria(cells)


def _runs(folder: Path) -> dict[tuple[str, str], Run]:
    """Find whole runs by suite and model; of several the one with most samples."""
    found: dict[tuple[str, str], Run] = {}
    for record in sorted(folder.glob(f"*/{RECORD}")):
        run = read_run(record.parent)
        key = (run.record.suite, run.record.model)
        before = found.get(key)
        if run.record.status == "complete" and (
            before is None or before.record.samples < run.record.samples
        ):
            found[key] = run
    return found


def _quality(model: str, suite: str, runs: Mapping[tuple[str, str], Run]) -> Cell:
    needed = model if "@" in model or ":" in model else model + SCORED.get(suite, "")
    run = runs.get((suite, model)) or runs.get((suite, needed))
    if run is None:
        return Cell("–", None, f"python -m eval run {suite} --model {needed}")
    scores = list(run.scores.values())
    page = run.folder / "report.html"
    write_html(report_of([run]), page)
    score = bootstrap_mean(scores)
    said = f"{score.value:.0%} [{score.low:.0%}, {score.high:.0%}]"
    return Cell(said, score.value, f"{len(scores)} samples of {suite}", quote(page.as_posix()))


def _measured(said: str, figure: float, share: float) -> Cell:
    if not figure:
        return Cell("–", None, "this engine does not tell it")
    return Cell(said, share, "measured in this comparison, models side by side")


def _licence(model: str) -> Cell:
    """Tell what the catalogue knows of a model's licence."""
    licence = _find_licence(model)
    if licence is None:
        return Cell("–", None, "not in the catalogue; read it where the model comes from")
    share = _LICENCES[licence.commercial]
    return Cell(licence.name, share, f"commercial use: {licence.commercial}", licence.url)


def _find_licence(model: str) -> Licence | None:
    try:
        name = parse_name(model)
        return find(name.target).licence if name.kind == "catalogue" else None
    except ChatkitError:
        return None


def _html(cell: Cell) -> str:
    said, why = escape(cell.said), escape(cell.evidence, quote=True)
    if cell.link:
        said = f"<a href='{escape(cell.link, quote=True)}'>{said}</a>"
    return f"<td title='{why}'>{said}</td>"
