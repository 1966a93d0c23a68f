"""Finds a scorer by what a YAML file says of it."""

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from chatkit.errors import InputError
from chatkit.scorers.checking import json_schema, keywords, length, regex
from chatkit.scorers.comparing import contains, exact, number
from chatkit.scorers.instructions import (
    all_of,
    bullets,
    ends,
    forbids,
    language,
    letters,
    paragraphs,
    sentences,
    starts,
)
from chatkit.scorers.overlap import bleu, rouge
from chatkit.scorers.program import code
from chatkit.scorers.score import Score, Scorer
from chatkit.scorers.talking import refusal

GROUP = "chatkit.scorers"


def scorer_of(said: Mapping[str, Any]) -> Scorer:
    """Make the scorer that `{"kind": …, options}` names.

    Several in one `{"kind": "mean", "of": […]}` are averaged. `{"kind": "python", "path":
    "file.py", "function": "score"}` is one of your own, called as `chatkit.scorers.Scorer` says;
    an installed package adds kinds by entry points of the group `chatkit.scorers`, each a function
    that takes the options and gives a scorer.

    Raises:
        InputError: the kind is unknown, or an option is.
    """
    options = dict(said)
    kind = options.pop("kind", None)
    make = SCORERS.get(kind) or _installed(str(kind))
    if make is None:
        near = difflib.get_close_matches(str(kind), SCORERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(sorted(SCORERS))}."
        raise InputError(f"The scorer's kind is {kind!r}; {hint}")
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        raise InputError(f"The scorer {kind} {error}; correct its options.") from None
    return make(**options)


def _installed(kind: str) -> Callable[..., Scorer] | None:
    """Find a kind that another package brings.

    Raises:
        InputError: the package cannot be imported.
    """
    for point in entry_points(group=GROUP, name=kind):
        try:
            made: Callable[..., Scorer] = point.load()
        except Exception as error:
            raise InputError(
                f"The scorer {kind} of {point.value} fails ({error}); correct or remove it."
            ) from error
        return made
    return None


def mean(of: Sequence[Mapping[str, Any]]) -> Scorer:
    """Average several scorers.

    Raises:
        InputError: there are none, or one of them is unknown.
    """
    scorers = [scorer_of(one) for one in of]
    if not scorers:
        raise InputError("The scorer mean is of no scorers; give at least one.")

    def score(question: str, answer: str, reference: str | None) -> Score:
        scores = [scorer(question, answer, reference) for scorer in scorers]
        said = "; ".join(one.explanation for one in scores if one.explanation)
        return Score(sum(one.value for one in scores) / len(scores), said)

    return score


def instructions(of: Sequence[Mapping[str, Any]]) -> Scorer:
    """Score the share of several instructions that are followed wholly (IFEval, Zhou 2023).

    Raises:
        InputError: there are none, or one of them is unknown.
    """
    if not of:
        raise InputError("The scorer instructions is of no scorers; give at least one.")
    return all_of(of, [scorer_of(one) for one in of])


def python(path: str, function: str = "score") -> Scorer:
    """Take a scorer from a Python file, which is run: use files that you trust.

    Raises:
        InputError: the file or the function in it is not there, or the file fails.
    """
    file = Path(path)
    specification = importlib.util.spec_from_file_location(f"scorer_{file.stem}", file)
    if specification is None or specification.loader is None or not file.is_file():
        raise InputError(f"There is no Python file {path}; check the scorer's path.")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"The scorer's file {path} fails ({error}); correct it.") from error
    found = module.__dict__.get(function)
    if not callable(found):
        raise InputError(f"{path} has no function {function!r}; name one that it has.")

    def score(question: str, answer: str, reference: str | None) -> Score:
        value = found(question, answer, reference)
        return value if isinstance(value, Score) else Score(float(value))

    return score


SCORERS: dict[str, Callable[..., Scorer]] = {
    "exact": exact,
    "contains": contains,
    "number": number,
    "regex": regex,
    "json_schema": json_schema,
    "length": length,
    "keywords": keywords,
    "sentences": sentences,
    "paragraphs": paragraphs,
    "bullets": bullets,
    "starts": starts,
    "ends": ends,
    "forbids": forbids,
    "letters": letters,
    "language": language,
    "instructions": instructions,
    "bleu": bleu,
    "rouge": rouge,
    "refusal": refusal,
    "code": code,
    "mean": mean,
    "python": python,
}
