"""Ratings from votes, and how far judges agree."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from chatkit.errors import InputError

# A rating of 1,500 is the average, and 400 more win ten times of eleven, as in chess (Elo 1978).
AVERAGE, SCALE = 1_500.0, 400.0
_STEPS, _CLOSE = 2_000, 1e-7


class Vote(NamedTuple):
    """One comparison.

    Args:
        first: a model.
        second: another.
        won: 1 for the first, 0 for the second, a half for neither.
    """

    first: str
    second: str
    won: float


class Rating(NamedTuple):
    """How strong a model is, in Elo's points.

    Args:
        value: the rating.
        low: the interval's lower end.
        high: its upper end.
        votes: of how many votes.
    """

    value: float
    low: float
    high: float
    votes: int


def bradley_terry(
    votes: Sequence[Vote], *, resamples: int = 500, confidence: float = 0.95, seed: int = 0
) -> dict[str, Rating]:
    """Rate models by who beats whom (Bradley and Terry 1952), best first.

    A tie counts half for each. One imagined tie of every two models that met keeps ratings finite.

    Args:
        votes: the comparisons.
        resamples: of the votes, for the intervals.
        confidence: of the intervals.
        seed: of the resamples.

    Raises:
        InputError: there are no votes.
    """
    if not votes:
        raise InputError("There are no votes to rate by; vote at least once.")
    names = sorted({name for vote in votes for name in (vote.first, vote.second)})
    place = {name: number for number, name in enumerate(names)}
    first = numpy.array([place[vote.first] for vote in votes])
    second = numpy.array([place[vote.second] for vote in votes])
    won = numpy.array([vote.won for vote in votes])
    whole = _strengths(first, second, won, len(names))
    random = numpy.random.default_rng(seed)
    again = []
    for _ in range(resamples):
        drawn = random.integers(len(votes), size=len(votes))
        again.append(_strengths(first[drawn], second[drawn], won[drawn], len(names)))
    tail = (1 - confidence) / 2
    lows, highs = numpy.quantile(numpy.array(again), [tail, 1 - tail], axis=0)
    counts = numpy.bincount(numpy.concatenate([first, second]), minlength=len(names))
    rated = {
        name: Rating(float(whole[n]), float(lows[n]), float(highs[n]), int(counts[n]))
        for n, name in enumerate(names)
    }
    return dict(sorted(rated.items(), key=lambda item: -item[1].value))


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Tell how far two judges agree beyond chance (Cohen 1960); None where chance is certain.

    Args:
        first: one judge's verdicts.
        second: the other's, on the same cases.

    Raises:
        InputError: the numbers of verdicts differ, or there are none.
    """
    if len(first) != len(second) or not first:
        raise InputError("Agreement needs the verdicts of both judges on the same cases.")
    kinds = sorted({*first, *second})
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    by_chance = sum(first.count(kind) * second.count(kind) for kind in kinds) / len(first) ** 2
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def _strengths(
    first: NDArray[numpy.int64],
    second: NDArray[numpy.int64],
    won: NDArray[numpy.float64],
    count: int,
) -> NDArray[numpy.float64]:
    """Find the likeliest ratings by minorisation (Hunter 2004)."""
    wins = numpy.zeros((count, count))
    numpy.add.at(wins, (first, second), won)
    numpy.add.at(wins, (second, first), 1 - won)
    met = (wins + wins.T) > 0
    wins += 0.5 * met
    games = wins + wins.T
    strength = numpy.ones(count)
    for _ in range(_STEPS):
        together = games / (strength[:, None] + strength[None, :])
        played = together.sum(axis=1)
        changed = numpy.where(played > 0, wins.sum(axis=1) / numpy.maximum(played, 1e-12), strength)
        changed /= numpy.exp(numpy.log(changed).mean())
        if abs(numpy.log(changed / strength)).max() < _CLOSE:
            break
        strength = changed
    rated: NDArray[numpy.float64] = AVERAGE + SCALE * numpy.log10(strength)
    return rated
