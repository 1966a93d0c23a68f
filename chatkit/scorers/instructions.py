"""Scorers of instructions that a program can check: form, words, language."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from chatkit.errors import InputError
from chatkit.scorers.score import Score, Scorer, passed

_SENTENCE = re.compile(r"[^.!?…。！？]+[.!?…。！？]+|[^.!?…。！？]+$")
_BULLET = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s+\S", re.MULTILINE)
_PARAGRAPHS = re.compile(r"\n\s*\n")
# The commonest little words of some languages; a script of its own tells the others.
_WORDS = {
    "en": {"the", "and", "of", "to", "is", "in", "that", "it", "for", "with", "you", "are"},
    "de": {"der", "die", "das", "und", "ist", "ein", "eine", "nicht", "mit", "zu", "den", "von"},
    "fr": {"le", "la", "les", "des", "est", "une", "et", "pour", "dans", "que", "qui", "vous"},
    "es": {"el", "los", "las", "una", "es", "y", "para", "con", "por", "del", "que", "se"},
    "it": {"il", "che", "di", "una", "è", "per", "con", "gli", "della", "non", "sono", "le"},
    "pt": {"o", "os", "uma", "é", "para", "com", "não", "do", "da", "em", "que", "as"},
}
_SCRIPTS = {
    "ru": re.compile(r"[а-яё]", re.IGNORECASE),
    "el": re.compile(r"[α-ω]", re.IGNORECASE),
    "ar": re.compile(r"[\u0620-\u064a]"),
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "ko": re.compile(r"[\uac00-\ud7a3]"),
    "zh": re.compile(r"[\u4e00-\u9fff]"),
}


def sentences(*, least: int = 1, most: int) -> Scorer:
    """Score 1 when an answer has so many sentences.

    Args:
        least: the fewest.
        most: the most.
    """
    return _counted("sentences", least, most, lambda said: len(_SENTENCE.findall(said.strip())))


def paragraphs(*, least: int = 1, most: int) -> Scorer:
    """Score 1 when an answer has so many paragraphs, parted by empty lines."""
    return _counted("paragraphs", least, most, lambda said: len(_PARAGRAPHS.split(said.strip())))


def bullets(*, least: int = 1, most: int) -> Scorer:
    """Score 1 when an answer has so many points, each on a line with a mark or a number."""
    return _counted("points", least, most, lambda said: len(_BULLET.findall(said)))


def starts(text: str) -> Scorer:
    """Score 1 when an answer begins with a text."""

    def score(question: str, answer: str, reference: str | None) -> Score:
        return passed(answer.strip().startswith(text), f"wanted {text!r} first")

    return score


def ends(text: str) -> Scorer:
    """Score 1 when an answer ends with a text."""

    def score(question: str, answer: str, reference: str | None) -> Score:
        return passed(answer.strip().endswith(text), f"wanted {text!r} last")

    return score


def forbids(words: Sequence[str]) -> Scorer:
    """Score 1 when an answer has none of some words.

    Raises:
        InputError: there are none.
    """
    if not words:
        raise InputError("The scorer forbids has no words; give at least one.")

    def score(question: str, answer: str, reference: str | None) -> Score:
        said = answer.casefold()
        found = [word for word in words if word.casefold() in said]
        return passed(not found, f"has {', '.join(found)}" if found else "")

    return score


def letters(case: str) -> Scorer:
    """Score 1 when an answer is in capital or in small letters only.

    Args:
        case: `upper` or `lower`.

    Raises:
        InputError: it is neither.
    """
    if case not in ("upper", "lower"):
        raise InputError(f"The scorer letters has the case {case!r}; use upper or lower.")

    def score(question: str, answer: str, reference: str | None) -> Score:
        wanted = answer.upper() if case == "upper" else answer.lower()
        has = any(letter.isalpha() for letter in answer)
        return passed(has and answer == wanted, f"wanted {case} case")

    return score


def language(code: str) -> Scorer:
    """Score 1 when most of an answer is in a language.

    Args:
        code: en, de, fr, es, it, pt by their little words; ru, el, ar, ja, ko, zh by script.

    Raises:
        InputError: the language is not known here.
    """
    if code not in (*_WORDS, *_SCRIPTS):
        known = ", ".join((*_WORDS, *_SCRIPTS))
        raise InputError(f"The scorer language does not know {code!r}; use one of {known}.")

    def score(question: str, answer: str, reference: str | None) -> Score:
        found = _language(answer)
        return passed(found == code, f"seems {found or 'no language'}")

    return score


def all_of(of: Sequence[Mapping[str, Any]], scorers: Sequence[Scorer]) -> Scorer:
    """Score the share of instructions that an answer follows.

    Args:
        of: what was said of each, for the explanation.
        scorers: one for each.
    """

    def score(question: str, answer: str, reference: str | None) -> Score:
        scores = [scorer(question, answer, reference) for scorer in scorers]
        missed = [
            f"{said['kind']}: {one.explanation}"
            for said, one in zip(of, scores, strict=True)
            if one.value < 1
        ]
        share = sum(one.value == 1 for one in scores) / len(scores)
        return Score(share, "; ".join(missed))

    return score


def _counted(name: str, least: int, most: int, count: Any) -> Scorer:
    if not 0 <= least <= most:
        raise InputError(f"{least} to {most} {name} are none; turn the numbers round.")

    def score(question: str, answer: str, reference: str | None) -> Score:
        found = count(answer) if answer.strip() else 0
        return passed(least <= found <= most, f"{found} {name}, wanted {least} to {most}")

    return score


def _language(text: str) -> str | None:
    letters = sum(letter.isalpha() for letter in text)
    if not letters:
        return None
    # Japanese has Chinese characters too, so its own come first.
    for code, script in _SCRIPTS.items():
        if len(script.findall(text)) > letters * (0.1 if code == "ja" else 0.5):
            return code
    words = re.findall(r"[^\W\d_]+", text.casefold())
    counts = {code: sum(word in known for word in words) for code, known in _WORDS.items()}
    best = max(counts, key=lambda code: counts[code])
    return best if counts[best] else None
