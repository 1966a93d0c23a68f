"""Tests of paired answers: is one model better, or at least no worse than allowed?"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy
from numpy.typing import NDArray

from chatkit.errors import InputError
from chatkit.stats.intervals import as_numbers

# Above so many pairs the exact test costs more than its last digit is worth.
EXACT_PAIRS = 300
# The values that the unknown share of gains is tried at.
_NUISANCE = 60


def mcnemar(first_only: int, second_only: int) -> float:
    """Give the two-sided exact p-value of a paired right/wrong table (McNemar 1947).

    Args:
        first_only: samples that only the first model got right.
        second_only: samples that only the second got right.
    """
    count = first_only + second_only
    if count == 0:
        return 1.0
    fewer = min(first_only, second_only)
    tail: float = sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count
    return min(1.0, 2 * tail)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for many comparisons (Holm 1979)."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    adjusted: dict[str, float] = {}
    highest = 0.0
    for place, name in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - place) * p_values[name]))
        adjusted[name] = highest
    return adjusted


def no_worse_p(differences: Sequence[float], margin: float) -> float:
    """Give the p-value of "the mean difference is `-margin` or worse".

    A small one shows that a model is no worse than the other by `margin` or more; with a negative
    margin, that it is better by more than that. Right/wrong scores (differences of -1, 0 and 1)
    take the score test for paired proportions (Tango 1998), exact over the unknown share of gains
    where there are few pairs; other scores within [0, 1] take the betting test (Waudby-Smith and
    Ramdas 2024), which holds for any number of them and any distribution.

    Args:
        differences: new minus old, one for each sample, within [-1, 1].
        margin: the largest loss of the mean that is allowed.

    Raises:
        InputError: there are none, or one is out of range.
    """
    numbers = _checked(differences, margin)
    if set(numpy.unique(numbers)) <= {-1.0, 0.0, 1.0}:
        gains, losses = int((numbers == 1).sum()), int((numbers == -1).sum())
        return _paired_binary_p(len(numbers), gains, losses, margin)
    return _betting_p(numbers, margin)


def power(
    pairs: int, gain: float, *, discordant: float, margin: float = 0.0, alpha: float = 0.05
) -> float:
    """Tell how often `no_worse_p` is below alpha for right/wrong scores.

    Args:
        pairs: how many samples.
        gain: the true mean difference.
        discordant: the true share of samples on which the models differ, at least `|gain|`.
        margin: as in `no_worse_p`.
        alpha: the level of the test.

    Raises:
        InputError: these shares cannot be.
    """
    if not abs(gain) <= discordant <= 1:
        raise InputError(
            f"A difference of {gain} needs between {abs(gain)} and 1 of the pairs to differ, not "
            f"{discordant}."
        )
    won, lost = (discordant + gain) / 2, (discordant - gain) / 2
    if pairs > EXACT_PAIRS:
        spread = math.sqrt(max(discordant - gain**2, 1e-12) / pairs)
        normal = NormalDist()
        return 1 - normal.cdf(normal.inv_cdf(1 - alpha) - (gain + margin) / spread)
    rejected = _tail(pairs, margin)[1] <= alpha
    return float(numpy.exp(_log_chances(pairs, won, lost))[rejected].sum())


def visible_gain(
    pairs: int, *, discordant: float, alpha: float = 0.05, wanted_power: float = 0.8
) -> float | None:
    """Tell the smallest true gain that so many pairs show with the power that is wanted.

    Args:
        pairs: how many samples.
        discordant: the share of samples on which the models differ for other reasons.
        alpha: the level of the test.
        wanted_power: how often it should be seen.

    Returns:
        The gain of the mean, None when not even the largest can be seen.
    """
    for points in range(1, 101):
        gain = points / 100
        if power(pairs, gain, discordant=max(discordant, gain), alpha=alpha) >= wanted_power:
            return gain
    return None


def _checked(differences: Sequence[float], margin: float) -> NDArray[numpy.float64]:
    numbers = as_numbers(differences)
    if abs(numbers).max() > 1 + 1e-9:
        raise InputError("A difference is outside of -1 to 1; scores must be within 0 and 1.")
    if not -1 < margin < 1:
        raise InputError(f"The margin is {margin}; it must be within -1 and 1.")
    return numbers


def _paired_binary_p(pairs: int, gains: int, losses: int, margin: float) -> float:
    if pairs > EXACT_PAIRS:
        z = _score(pairs, numpy.array([gains]), numpy.array([losses]), margin)[0]
        return 1 - NormalDist().cdf(float(z))
    grid, tail = _tail(pairs, margin)
    return float(tail[(grid[0] == gains) & (grid[1] == losses)][0])


def _score(
    pairs: int, gains: NDArray[numpy.int64], losses: NDArray[numpy.int64], margin: float
) -> NDArray[numpy.float64]:
    """Give Tango's statistic for a mean difference of `-margin`."""
    d = -margin
    # The likeliest share of losses when the mean difference is d (Tango 1998, formula 8).
    b = -gains - losses + (2 * pairs - gains + losses) * d
    c = -losses * d * (1 - d)
    lost = (numpy.sqrt(numpy.maximum(b**2 - 8 * pairs * c, 0)) - b) / (4 * pairs)
    lost = numpy.clip(lost, max(0.0, -d), 1)
    spread = numpy.sqrt(numpy.maximum(pairs * (2 * lost + d * (1 - d)), 1e-12))
    score: NDArray[numpy.float64] = (gains - losses - pairs * d) / spread
    return score


@lru_cache(maxsize=64)
def _tail(
    pairs: int, margin: float
) -> tuple[tuple[NDArray[numpy.int64], NDArray[numpy.int64]], NDArray[numpy.float64]]:
    """Give each table's p-value: the most of the chance of such a table or a worse one.

    Returns:
        Gains and losses of every table, and the p-values.
    """
    gains, losses = _tables(pairs)
    score = _score(pairs, gains, losses, margin)
    order = numpy.argsort(-score, kind="stable")
    # Tables of the same score stand and fall together.
    ends = numpy.searchsorted(-score[order], -score[order] + 1e-9, side="right") - 1
    worst = numpy.zeros(len(gains))
    for share in numpy.linspace(0, 1, _NUISANCE):
        low, high = max(0.0, -margin), (1 - margin) / 2
        won = low + (high - low) * share
        chances = numpy.exp(_log_chances(pairs, won, won + margin))
        worst = numpy.maximum(worst, numpy.cumsum(chances[order])[ends])
    tail = numpy.empty(len(gains))
    tail[order] = numpy.minimum(worst, 1.0)
    return (gains, losses), tail


@lru_cache(maxsize=64)
def _tables(pairs: int) -> tuple[NDArray[numpy.int64], NDArray[numpy.int64]]:
    gains, losses = numpy.meshgrid(numpy.arange(pairs + 1), numpy.arange(pairs + 1))
    possible = gains + losses <= pairs
    return gains[possible], losses[possible]


def _log_chances(pairs: int, won: float, lost: float) -> NDArray[numpy.float64]:
    """Give the log-probability of each table of `_tables`."""
    gains, losses = _tables(pairs)
    factorials = numpy.concatenate([[0.0], numpy.cumsum(numpy.log(numpy.arange(1, pairs + 1)))])
    same = pairs - gains - losses
    ways: NDArray[numpy.float64] = factorials[pairs] - sum(
        factorials[count] for count in (gains, losses, same)
    )
    shares = ((gains, won), (losses, lost), (same, max(0.0, 1 - won - lost)))
    drawn = [_times_log(count, share) for count, share in shares]
    return numpy.asarray(numpy.add.reduce([ways, *drawn]), numpy.float64)


def _times_log(counts: NDArray[numpy.int64], share: float) -> NDArray[numpy.float64]:
    if share <= 0:
        return numpy.where(counts > 0, -numpy.inf, 0.0)
    logs: NDArray[numpy.float64] = counts * numpy.float64(math.log(share))
    return logs


def _betting_p(numbers: NDArray[numpy.float64], margin: float) -> float:
    """Bet against "the mean is -margin or less"; who wins much has shown it to be wrong."""
    scaled = (numbers + 1) / 2
    null = (1 - margin) / 2
    # The order is part of the test, so it may not depend on who wrote the data down.
    scaled = numpy.random.default_rng(0).permutation(scaled)
    count, before = len(scaled), numpy.arange(1, len(scaled) + 1)
    means = (0.5 + numpy.concatenate([[0.0], numpy.cumsum(scaled)[:-1]])) / before
    distance = (scaled - (0.5 + numpy.cumsum(scaled)) / (before + 1)) ** 2
    spread = (0.25 + numpy.concatenate([[0.0], numpy.cumsum(distance)[:-1]])) / before
    # What pays best for so small an edge, and what a fixed number of bets can use.
    edge = numpy.maximum(means - null, 0) / (spread + (means - null) ** 2)
    stake = numpy.minimum(
        numpy.maximum(edge, numpy.sqrt(2 * math.log(20) / (count * spread))), 0.75 / null
    )
    wealth = numpy.log1p(stake * (scaled - null)).sum()
    return float(min(1.0, math.exp(-wealth)))
