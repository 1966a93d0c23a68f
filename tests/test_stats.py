"""Statistics: what holds whatever the numbers, and by simulation."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.errors import InputError
from chatkit.stats.intervals import bootstrap_mean
from chatkit.stats.paired import holm, no_worse_p, power, visible_gain
from chatkit.stats.ratings import Vote, bradley_terry

ALPHA = 0.05


def draw(random: numpy.random.Generator, pairs: int, won: float, lost: float) -> list[float]:
    shares = [won, 1 - won - lost, lost]
    return list(random.choice([1.0, 0.0, -1.0], p=shares, size=pairs))


# Intervals


def test_values_that_are_all_the_same_have_no_width() -> None:
    assert bootstrap_mean([0.5] * 9)[:3] == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")]])
def test_nothing_and_no_numbers_are_refused(values: list[float]) -> None:
    with pytest.raises(InputError):
        bootstrap_mean(values)


# Paired tests


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_correction_makes_nothing_surer_and_keeps_the_order(p_values: list[float]) -> None:
    named = {str(place): value for place, value in enumerate(p_values)}
    corrected = holm(named)
    assert all(named[name] <= corrected[name] <= 1 for name in named)
    by_value = sorted(named, key=lambda name: named[name])
    assert [corrected[name] for name in by_value] == sorted(corrected.values())


@pytest.mark.parametrize("pairs", [20, 60, 200])
@pytest.mark.parametrize("margin", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("gains", [0.0, 0.1])
def test_a_loss_of_the_whole_margin_passes_no_more_often_than_alpha(
    pairs: int, margin: float, gains: float
) -> None:
    lost = gains + margin
    if not lost:
        return
    # Exact: every table that could come, with its chance.
    assert power(pairs, -margin, discordant=gains + lost, margin=margin) <= ALPHA + 0.002


@pytest.mark.parametrize(("gain", "discordant"), [(0.0, 0.1), (0.1, 0.3), (-0.02, 0.2)])
def test_the_power_is_what_it_says(gain: float, discordant: float) -> None:
    random, times = numpy.random.default_rng(0), 600
    won, lost = (discordant + gain) / 2, (discordant - gain) / 2
    passed = sum(no_worse_p(draw(random, 80, won, lost), 0.1) <= ALPHA for _ in range(times))
    said = power(80, gain, discordant=discordant, margin=0.1)
    assert passed / times == pytest.approx(said, abs=0.06)


@pytest.mark.parametrize("spread", [0.05, 0.3, 0.9])
def test_graded_scores_that_lose_the_margin_pass_no_more_often_than_alpha(spread: float) -> None:
    random, times, margin = numpy.random.default_rng(0), 400, 0.1
    passed = 0
    for _ in range(times):
        # Skewed: many small gains and few great losses, which fools a test by the normal law.
        lost = random.random(60) < 0.1
        values = numpy.where(lost, -spread, (0.1 * spread - margin) / 0.9)
        passed += no_worse_p(list(numpy.clip(values, -1, 1)), margin) <= ALPHA
    assert passed / times <= ALPHA + 0.03


def test_forty_one_pairs_show_some_twenty_points() -> None:
    seen = visible_gain(41, discordant=0.3)
    assert seen is not None and 0.18 <= seen <= 0.24
    assert power(41, seen, discordant=0.3) >= 0.8
    assert power(41, seen - 0.01, discordant=0.3) < 0.8


def test_more_pairs_see_smaller_gains() -> None:
    seen = [visible_gain(pairs, discordant=0.2) or 1 for pairs in (30, 100, 280, 1_000)]
    assert seen == sorted(seen, reverse=True) and seen[-1] < 0.06


def test_differences_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="within 0 and 1"):
        no_worse_p([2.0], 0.1)


# Ratings


def test_the_stronger_model_is_rated_higher_by_the_odds() -> None:
    votes = [Vote("a", "b", 1.0)] * 300 + [Vote("a", "b", 0.0)] * 100
    rated = bradley_terry(votes)
    assert list(rated) == ["a", "b"]
    # Three to one is 191 points.
    assert rated["a"].value - rated["b"].value == pytest.approx(191, abs=3)
    assert rated["a"].low > rated["b"].high


def test_the_order_of_the_two_changes_nothing() -> None:
    votes = [Vote("a", "b", 1.0)] * 3 + [Vote("b", "c", 0.5)] * 4
    turned = [Vote(vote.second, vote.first, 1 - vote.won) for vote in votes]
    ours, theirs = bradley_terry(votes, resamples=20), bradley_terry(turned, resamples=20)
    assert {name: rating.value for name, rating in ours.items()} == pytest.approx(
        {name: rating.value for name, rating in theirs.items()}, abs=0.1
    )


def test_who_never_loses_still_has_a_finite_rating() -> None:
    assert bradley_terry([Vote("a", "b", 1.0)] * 5)["a"].value < 3_000
