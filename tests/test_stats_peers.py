"""Statistics, against scipy and statsmodels."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests

from chatkit.stats.intervals import bootstrap_mean
from chatkit.stats.paired import holm, mcnemar
from chatkit.stats.ratings import cohen_kappa

# Importing them takes longer than most tests.
pytestmark = pytest.mark.lengthy


@pytest.mark.parametrize("values", [[0.0, 1.0] * 30, list(numpy.linspace(0, 1, 80) ** 2)])
def test_the_interval_is_scipys(values: list[float]) -> None:
    ours = bootstrap_mean(values)
    theirs = bootstrap(
        (numpy.array(values),), numpy.mean, method="percentile", rng=numpy.random.default_rng(1)
    ).confidence_interval
    assert ours.value == pytest.approx(numpy.mean(values))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


@given(first=st.integers(0, 40), second=st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    wanted = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(wanted)


@pytest.mark.parametrize("p_values", [[0.03], [0.04, 0.01, 0.02, 0.01], [0.9, 0.0, 0.3, 1.0, 0.3]])
def test_holms_correction_is_statsmodels(p_values: list[float]) -> None:
    corrected = holm({str(place): value for place, value in enumerate(p_values)})
    wanted = multipletests(p_values, method="holm")[1]
    assert [corrected[str(place)] for place in range(len(p_values))] == pytest.approx(list(wanted))


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["ab", "aa", "bb", "ba"]), min_size=4, max_size=30))
def test_agreement_is_statsmodels(pairs: list[str]) -> None:
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    table = [[pairs.count(a + b) for b in "ab"] for a in "ab"]
    ours = cohen_kappa(first, second)
    if ours is not None:
        assert ours == pytest.approx(cohens_kappa(table).kappa)
