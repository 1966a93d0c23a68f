"""Sampling values: checked when they are written down."""

import pytest

from chatkit.errors import SamplingError
from chatkit.sampling import Sampling


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": 0},
        {"min_p": 1.0},
        {"max_tokens": 0},
        {"repetition_penalty": 0.0},
        {"presence_penalty": 3},
        {"seed": -1},
        {"stop": ("",)},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_named(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(SamplingError, match=f"option {name} is"):
        Sampling.model_validate(options)


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(SamplingError, match="'temprature'; did you mean temperature"):
        Sampling.model_validate({"temprature": 1})


def test_a_broken_json_schema_is_refused() -> None:
    with pytest.raises(SamplingError, match="not a valid JSON schema"):
        Sampling(json_schema={"type": "nonsense"})


def test_what_is_unset_comes_from_the_default() -> None:
    chosen = Sampling(temperature=0, seed=3).over(Sampling(temperature=1, top_p=0.5, stop=("x",)))
    assert (chosen.temperature, chosen.top_p, chosen.seed, chosen.stop) == (0, 0.5, 3, ("x",))


def test_an_error_is_one_sentence() -> None:
    with pytest.raises(SamplingError) as caught:
        Sampling(top_p=2)
    assert str(caught.value).count("\n") == 0 and str(caught.value).endswith(".")
