"""Scorers: what a program can tell of an answer."""

from pathlib import Path
from typing import Any

import pytest

from chatkit.errors import InputError
from chatkit.messages import Message, assistant, user
from chatkit.scorers import Score, scorer_of
from chatkit.scorers.talking import talk_scorer

LISTS = {"type": "array", "items": {"$ref": "#"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def test_an_installed_package_brings_scorers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shouts.py").write_text(
        "def make(least=1):\n    return lambda asked, said, wanted: said.count('!') >= least\n"
    )
    there = tmp_path / "shouts-1.dist-info"
    there.mkdir()
    (there / "METADATA").write_text("Name: shouts\nVersion: 1\n")
    (there / "entry_points.txt").write_text(
        "[chatkit.scorers]\nshouts = shouts:make\nbroken = nowhere:make\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert scorer_of({"kind": "shouts", "least": 2})("q", "oh!!", None)
    with pytest.raises(InputError, match="nowhere:make fails"):
        scorer_of({"kind": "broken"})


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
        ({"kind": "json_schema", "schema": SCHEMA}, "[" * 5000, None, 0),
        ({"kind": "json_schema", "schema": LISTS}, "[[]]", None, 1),
        ({"kind": "json_schema", "schema": LISTS}, "[" * 300 + "]" * 300, None, 0.5),
        ({"kind": "length", "most": 2}, "one two three four", None, 0.5),
        ({"kind": "length", "least": 4, "most": 9}, "one two", None, 0.5),
        ({"kind": "keywords", "words": ["sun", "rain"]}, "Sun and snow", None, 0.5),
        ({"kind": "sentences", "most": 2}, "One. Two! ", None, 1),
        ({"kind": "sentences", "most": 1}, "One. Two.", None, 0),
        ({"kind": "paragraphs", "least": 2, "most": 2}, "one\n\ntwo", None, 1),
        ({"kind": "bullets", "least": 3, "most": 3}, "- a\n* b\n3. c", None, 1),
        ({"kind": "starts", "text": "So"}, " So it is", None, 1),
        ({"kind": "ends", "text": "bye."}, "bye", None, 0),
        ({"kind": "forbids", "words": ["cat"]}, "A Cat", None, 0),
        ({"kind": "letters", "case": "upper"}, "ROME 1", None, 1),
        ({"kind": "letters", "case": "lower"}, "12", None, 0),
        ({"kind": "language", "code": "fr"}, "C'est une histoire pour les enfants.", None, 1),
        ({"kind": "language", "code": "de"}, "It is the end of the day.", None, 0),
        ({"kind": "language", "code": "ja"}, "これは本です。", None, 1),
        ({"kind": "refusal"}, "I'm sorry, but I can't help with that.", None, 1),
        ({"kind": "refusal"}, "I’m sorry, but I cannot do it.", None, 1),
        ({"kind": "refusal", "wanted": False}, "Mix flour and water.", None, 1),
        ({"kind": "bleu"}, "the cat is on the mat", "the cat is on the mat", 1),
        ({"kind": "rouge"}, "a b c d", "a b", 2 / 3),
        (
            {
                "kind": "instructions",
                "of": [{"kind": "starts", "text": "A"}, {"kind": "ends", "text": "z"}],
            },
            "A b",
            None,
            0.5,
        ),
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
    assert scorer_of(said)("question", answer, reference).value == pytest.approx(value)


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
        ({"kind": "json_schema", "schema": {"$ref": "http://127.0.0.1:1/x"}}, "not fetched"),
        ({"kind": "keywords", "words": []}, "no words"),
        ({"kind": "mean", "of": []}, "no scorers"),
        ({"kind": "python", "path": "nowhere.py"}, "no Python file"),
        ({"kind": "lenght", "most": 3}, "did you mean length"),
        ({"kind": "bullets", "least": 3, "most": 1}, "turn the numbers round"),
        ({"kind": "letters", "case": "title"}, "use upper or lower"),
        ({"kind": "language", "code": "xx"}, "does not know 'xx'"),
        ({"kind": "forbids", "words": []}, "no words"),
        ({"kind": "instructions", "of": []}, "no scorers"),
        ({"kind": "rouge", "variant": "rouge9"}, "use rouge1"),
        ({"kind": "code", "seconds": 0}, "above 0"),
    ],
)
def test_a_scorer_that_cannot_be_made_is_one_sentence(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        scorer_of(said)


def test_a_missing_reference_is_told() -> None:
    with pytest.raises(InputError, match="this question has none"):
        scorer_of({"kind": "exact"})("q", "a", None)


# Conversations


def talk(*answers: str) -> list[Message]:
    turns = ((user("What grows in gardens?"), assistant(answer)) for answer in answers)
    return [message for turn in turns for message in turn]


@pytest.mark.parametrize(
    ("name", "messages", "value"),
    [
        ("no_repetition", talk("one two three four five"), 1),
        ("no_repetition", talk("one two three four", "one two three four"), 0.5),
        ("in_role", talk("Tomatoes.", "User: and then?"), 0.5),
        ("in_role", talk("As an AI, I have no garden."), 0),
        ("on_subject", talk("Many things grow in gardens.", "Blue."), 0.5),
        ("on_subject", [], 0),
    ],
)
def test_a_conversation_is_scored(name: str, messages: list[Message], value: float) -> None:
    assert talk_scorer(name)(messages).value == value
