"""Scorers that compare an answer with a reference."""

import re

from chatkit.errors import InputError
from chatkit.scorers.score import Score, Scorer, passed

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_SPACE = re.compile(r"\s+")


def exact(*, ignore_case: bool = True) -> Scorer:
    """Score 1 when an answer is the reference, white space aside.

    Args:
        ignore_case: whether capitals are the same as small letters.
    """

    def score(question: str, answer: str, reference: str | None) -> Score:
        pair = [_plain(text, ignore_case) for text in (answer, needed(reference, "exact"))]
        return passed(pair[0] == pair[1], f"wanted {reference!r}")

    return score


def contains(text: str | None = None, *, ignore_case: bool = True) -> Scorer:
    """Score 1 when an answer contains a text.

    Args:
        text: which; the reference when None.
        ignore_case: whether capitals are the same as small letters.
    """

    def score(question: str, answer: str, reference: str | None) -> Score:
        wanted = text if text is not None else needed(reference, "contains")
        found = _plain(wanted, ignore_case) in _plain(answer, ignore_case)
        return passed(found, f"wanted {wanted!r} in it")

    return score


def number() -> Scorer:
    """Score 1 when the last number of an answer is the last one of the reference.

    Source: GSM8K (Cobbe 2021), whose references end with `#### N`.
    """

    def score(question: str, answer: str, reference: str | None) -> Score:
        wanted, said = _last_number(needed(reference, "number")), _last_number(answer)
        if wanted is None:
            raise InputError(f"The reference {reference!r} has no number; correct the data.")
        return passed(said is not None and abs(said - wanted) < 1e-6, f"{said} for {wanted}")

    return score


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _plain(text: str, ignore_case: bool) -> str:
    text = _SPACE.sub(" ", text).strip()
    return text.casefold() if ignore_case else text


def needed(reference: str | None, name: str) -> str:
    """Give the reference of a question.

    Raises:
        InputError: it has none.
    """
    if reference is None:
        raise InputError(
            f"The scorer {name} compares with a reference and this question has none; add one."
        )
    return reference
