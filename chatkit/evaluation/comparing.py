"""Compares two runs of one suite, sample by sample."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from chatkit.errors import InputError
from chatkit.evaluation.record import Run
from chatkit.stats.intervals import Estimate, bootstrap_mean
from chatkit.stats.paired import mcnemar, visible_gain


@dataclass(frozen=True, slots=True)
class Floor:
    """How far a model differs from itself, asked the same again.

    Args:
        changed: the share of samples whose score changed.
        difference: the mean of the second pass less the first.
        pairs: how many samples were asked twice.
    """

    changed: float
    difference: Estimate
    pairs: int


@dataclass(frozen=True, slots=True)
class Change:
    """A sample whose score differs.

    Args:
        sample: its id.
        difference: new less old.
    """

    sample: str
    difference: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a new run has over an old one.

    Args:
        old: the run that it is compared with.
        new: the run that is judged.
        differences: of the score, new less old, by sample.
        gain: their mean with its interval.
        p_value: of "they differ by nothing": exact McNemar, where scores are right or wrong.
        floors: how far each model differs from itself, where it was asked twice.
        slices: the gain in each slice, by `column: value`.
        slice_differences: what they are the means of.
        visible: the smallest gain that so many samples show four times of five.
    """

    old: Run
    new: Run
    differences: Mapping[str, float]
    gain: Estimate
    p_value: float | None
    floors: Mapping[str, Floor]
    slices: Mapping[str, Estimate]
    slice_differences: Mapping[str, list[float]]
    visible: float | None

    @property
    def worst(self) -> list[Change]:
        """The samples that lost most, worst first."""
        lost = [Change(name, value) for name, value in self.differences.items() if value < 0]
        return sorted(lost, key=lambda change: change.difference)


def compare_runs(old: Run, new: Run, *, across_templates: bool = False) -> Comparison:
    """Compare two runs by the samples that both answered.

    Args:
        old: the run that the other is compared with.
        new: the run that is judged.
        across_templates: whether the runs may be of models with different chat templates, as two
            models of different makers are.

    Raises:
        InputError: the runs asked different questions, or by different templates or sampling.
    """
    check_comparable(old, new, across_templates=across_templates)
    before, after = old.scores, new.scores
    both = sorted(set(before) & set(after))
    if not both:
        raise InputError("The runs share no answered sample; go on with the unfinished one.")
    differences = {name: after[name] - before[name] for name in both}
    floors = {
        name: floor
        for name, run in (("old", old), ("new", new))
        if (floor := noise_floor(run)) is not None
    }
    values = list(differences.values())
    binary = set(before.values()) | set(after.values()) <= {0.0, 1.0}
    changed = sum(value != 0 for value in values) / len(values)
    slices = _slices(new, differences)
    return Comparison(
        old,
        new,
        differences,
        bootstrap_mean(values),
        mcnemar(values.count(-1.0), values.count(1.0)) if binary else None,
        floors,
        {label: bootstrap_mean(each) for label, each in slices.items()},
        slices,
        visible_gain(len(values), discordant=max(changed, 0.02)),
    )


def check_comparable(old: Run, new: Run, *, across_templates: bool) -> None:
    """Refuse runs that were asked otherwise.

    Raises:
        InputError: they were; the difference is told.
    """
    for name, told in (
        ("suite", "suites"),
        ("identity", "questions"),
        ("template", "chat templates"),
        ("sampling", "sampling"),
    ):
        before, after = (getattr(run.record, name) for run in (old, new))
        if before == after or (name == "template" and across_templates):
            continue
        hint = (
            "say --across-templates where that is meant"
            if name == "template"
            else "run both with the same suite, limit and seed"
        )
        raise InputError(
            f"The runs have different {told} ({before} in {old.folder}, {after} in {new.folder}); "
            f"{hint}."
        )


def noise_floor(run: Run) -> Floor | None:
    """Tell how far a model differs from itself; None where nothing was asked twice."""
    first = _scores_of(run, 0)
    second = _scores_of(run, 1)
    both = sorted(set(first) & set(second))
    if not both:
        return None
    differences = [second[name] - first[name] for name in both]
    changed = sum(value != 0 for value in differences) / len(both)
    return Floor(changed, bootstrap_mean(differences), len(both))


def _scores_of(run: Run, turn: int) -> dict[str, float]:
    return {
        sample: answer.score
        for (sample, asked), answer in run.answers.items()
        if asked == turn and answer.score is not None
    }


def _slices(run: Run, differences: Mapping[str, float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for (sample, turn), answer in run.answers.items():
        if turn == 0 and sample in differences:
            for label in slice_labels(answer.slices, answer.asked):
                found.setdefault(label, []).append(differences[sample])
    return dict(sorted(found.items()))


def slice_labels(slices: Mapping[str, str], asked: Iterable[str]) -> list[str]:
    """Name the slices that a sample is in: its own, and how long its question is."""
    words = fmean([len(turn.split()) for turn in asked])
    length = "short" if words < 20 else "long" if words > 80 else "medium"
    return [*(f"{name}: {value}" for name, value in slices.items()), f"question: {length}"]
