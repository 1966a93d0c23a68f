"""What a scorer gives."""

from collections.abc import Callable
from typing import NamedTuple


class Score(NamedTuple):
    """How good an answer is.

    Args:
        value: from 0, useless, to 1, as it should be.
        explanation: why, in a few words.
    """

    value: float
    explanation: str = ""


Scorer = Callable[[str, str, str | None], Score]
"""Scores an answer: the question, the answer, and what it is compared with where there is that."""


def passed(whether: bool, explanation: str = "") -> Score:
    """Give 1 or 0."""
    return Score(float(whether), explanation)
