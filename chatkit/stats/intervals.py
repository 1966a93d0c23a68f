"""Means with intervals, by resampling."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from chatkit.errors import InputError

RESAMPLES = 10_000
# So many indices are drawn at once.
_CHUNK = 1 << 22


class Estimate(NamedTuple):
    """A mean and how sure it is.

    Args:
        value: the mean.
        low: the interval's lower end.
        high: its upper end.
        pairs: how many values, or pairs of them, it is of.
    """

    value: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_mean(
    values: Sequence[float],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Give the mean of some values with a percentile bootstrap interval (Efron 1979).

    Args:
        values: one for each sample; for a paired comparison, the differences.
        confidence: how often the interval should hold the true mean.
        resamples: how many times the values are drawn again.
        seed: of the draws.

    Raises:
        InputError: there are no values, or one is no number.
    """
    numbers = as_numbers(values)
    means = _resampled_means(numbers, resamples, numpy.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = numpy.quantile(means, [tail, 1 - tail])
    return Estimate(float(numbers.mean()), float(low), float(high), len(numbers))


def as_numbers(values: Sequence[float]) -> NDArray[numpy.float64]:
    """Give values as an array, (values,).

    Raises:
        InputError: there are none, or one is no number.
    """
    numbers = numpy.asarray(values, dtype=numpy.float64)
    if numbers.size == 0:
        raise InputError("There are no values to average; answer at least one sample.")
    if not numpy.isfinite(numbers).all():
        raise InputError("A value is no number; leave out samples without a score.")
    return numbers


def _resampled_means(
    numbers: NDArray[numpy.float64], resamples: int, random: numpy.random.Generator
) -> NDArray[numpy.float64]:
    kinds, counts = numpy.unique(numbers, return_counts=True)
    if len(kinds) <= 64:
        # Drawing with replacement is drawing how often each value comes.
        drawn = random.multinomial(len(numbers), counts / len(numbers), size=resamples)
        means: NDArray[numpy.float64] = drawn @ kinds / len(numbers)
        return means
    kept = numbers.astype(numpy.float32)
    at_once = max(1, _CHUNK // len(kept))
    means = numpy.empty(resamples)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        places = random.integers(len(kept), size=(rows, len(kept)), dtype=numpy.uint32)
        means[start : start + rows] = kept[places].mean(axis=1)
    return means
