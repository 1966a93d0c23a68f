"""Scorers that check an answer by itself: its form, its length, its words."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from chatkit.errors import InputError
from chatkit.json_schemas import fault_finder, schema_fault
from chatkit.scorers.score import Score, Scorer, passed


def regex(pattern: str, *, whole: bool = False) -> Scorer:
    """Score 1 when an answer matches a regular expression.

    Args:
        pattern: in Python's form.
        whole: whether all of the answer must match.

    Raises:
        InputError: the expression is broken.
    """
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise InputError(f"The regex {pattern!r} is broken ({error}); correct it.") from None

    def score(question: str, answer: str, reference: str | None) -> Score:
        found = compiled.fullmatch(answer.strip()) if whole else compiled.search(answer)
        return passed(found is not None, f"wanted /{pattern}/")

    return score


def json_schema(schema: Mapping[str, Any]) -> Scorer:
    """Score 1 when an answer is JSON of a schema, and half when it is JSON of another form.

    Args:
        schema: a JSON schema (draft 2020-12).

    Raises:
        InputError: the schema is broken.
    """
    if fault := schema_fault(schema):
        raise InputError(f"The JSON schema is broken ({fault}); correct it.")
    try:
        fault_of = fault_finder(schema)
    except ValueError as error:
        raise InputError(f"The JSON schema is broken ({error}); correct it.") from None

    def score(question: str, answer: str, reference: str | None) -> Score:
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError) as error:
            return Score(0.0, f"no JSON: {error}")
        problem = fault_of(value)
        return Score(0.5, problem) if problem else Score(1.0)

    return score


def length(*, least: int = 1, most: int) -> Scorer:
    """Score 1 when an answer has so many words, and less the further it is from that.

    Args:
        least: the fewest words.
        most: the most words.

    Raises:
        InputError: the numbers are the wrong way round.
    """
    if not 0 <= least <= most:
        raise InputError(f"A length from {least} to {most} words is none; turn the numbers round.")

    def score(question: str, answer: str, reference: str | None) -> Score:
        words = len(answer.split())
        if words < least:
            return Score(words / least, f"{words} words, wanted {least} or more")
        if words > most:
            return Score(most / words, f"{words} words, wanted {most} or fewer")
        return Score(1.0)

    return score


def keywords(words: Sequence[str]) -> Scorer:
    """Score the share of some words that an answer has.

    Args:
        words: which.

    Raises:
        InputError: there are none.
    """
    if not words:
        raise InputError("The scorer keywords has no words; give at least one.")

    def score(question: str, answer: str, reference: str | None) -> Score:
        said = answer.casefold()
        missing = [word for word in words if word.casefold() not in said]
        return Score(1 - len(missing) / len(words), f"missing: {', '.join(missing) or 'none'}")

    return score
