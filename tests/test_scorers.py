"""Scorers: what a program can tell of an answer."""

from pathlib import Path
from typing import Any

import pytest

from chatkit.errors import InputError
from chatkit.scorers import Score, scorer_of

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("said", "answer", "reference", "value"),
    [
        ({"kind": "exact"}, " Paris\n", "paris", 1),
        ({"kind": "exact", "ignore_case": False}, "Paris", "paris", 0),
        ({"kind": "contains"}, "It is Paris.", "paris", 1),
        ({"kind": "contains", "text": "yes"}, "no", None, 0),
        ({"kind": "number"}, "So the answer is 1,234.0", "Work.\n#### 1234", 1),
        ({"kind": "number"}, "none", "#### 3", 0),
        ({"kind": "regex", "pattern": "^a+$", "whole": True}, "aaa", None, 1),
        ({"kind": "json_schema", "schema": SCHEMA}, '{"a": 1}', None, 1),
        ({"kind": "json_schema", "schema": SCHEMA}, '{"a": "x"}', None, 0.5),
        ({"kind": "json_schema", "schema": SCHEMA}, "a: 1", None, 0),
        ({"kind": "length", "most": 2}, "one two three four", None, 0.5),
        ({"kind": "length", "least": 4, "most": 9}, "one two", None, 0.5),
        ({"kind": "keywords", "words": ["sun", "rain"]}, "Sun and snow", None, 0.5),
        (
            {"kind": "mean", "of": [{"kind": "contains", "text": "a"}, {"kind": "exact"}]},
            "a",
            "b",
            0.5,
        ),
    ],
)
def test_an_answer_is_scored(
    said: dict[str, Any], answer: str, reference: str | None, value: float
) -> None:
    assert scorer_of(said)("question", answer, reference).value == value


def test_a_scorer_of_ones_own_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def score(question, answer, reference):\n    return len(answer) / 10\n")
    assert scorer_of({"kind": "python", "path": str(file)})("q", "12345", None) == Score(0.5)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"kind": "wise"}, "'wise'; use one of"),
        ({}, "kind is None"),
        ({"kind": "length", "most": 1, "moist": 2}, "moist"),
        ({"kind": "length", "least": 5, "most": 1}, "turn the numbers round"),
        ({"kind": "regex", "pattern": "("}, "is broken"),
        ({"kind": "json_schema", "schema": {"type": 3}}, "is broken"),
        ({"kind": "keywords", "words": []}, "no words"),
        ({"kind": "mean", "of": []}, "no scorers"),
        ({"kind": "python", "path": "nowhere.py"}, "no Python file"),
    ],
)
def test_a_scorer_that_cannot_be_made_is_one_sentence(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        scorer_of(said)


def test_a_missing_reference_is_told() -> None:
    with pytest.raises(InputError, match="this question has none"):
        scorer_of({"kind": "exact"})("q", "a", None)
