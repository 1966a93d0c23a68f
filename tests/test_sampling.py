"""Sampling values: checked when they are written down."""

from typing import Any

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


def nested(levels: int) -> dict[str, Any]:
    """Give a schema of an object in an object, so many times."""
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "nonsense"}, "nonsense"),
        ({"properties": []}, "not of type"),
        ({"minLength": -1}, "minimum"),
        ({"pattern": "("}, "regex"),
        ({"$schema": 5}, "not of type"),
        ({"properties": {"a": object()}}, "object"),
        (nested(20_000), "levels deep"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "minimum": "3"}, "not of type"),
    ],
)
def test_a_broken_json_schema_is_refused_with_the_reason(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(SamplingError, match=rf"not a valid JSON schema \(.*{why}"):
        Sampling(json_schema=schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        nested(90),
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {}}},
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "minimum": 1,
            "exclusiveMinimum": True,
        },
        # Neither is fetched: nobody is at the address.
        {"$schema": "http://127.0.0.1:1/own", "type": "string"},
        {"$ref": "http://127.0.0.1:1/own"},
    ],
)
def test_a_well_formed_json_schema_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert Sampling(json_schema=schema).json_schema == schema


def test_what_is_unset_comes_from_the_default() -> None:
    chosen = Sampling(temperature=0, seed=3).over(Sampling(temperature=1, top_p=0.5, stop=("x",)))
    assert (chosen.temperature, chosen.top_p, chosen.seed, chosen.stop) == (0, 0.5, 3, ("x",))


def test_an_error_is_one_sentence() -> None:
    with pytest.raises(SamplingError) as caught:
        Sampling(top_p=2)
    assert str(caught.value).count("\n") == 0 and str(caught.value).endswith(".")
