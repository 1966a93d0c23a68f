"""Scorers of how much an answer shares with a reference, as machine translation measures it."""

from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

from chatkit.errors import InputError, MissingExtra
from chatkit.scorers.comparing import needed
from chatkit.scorers.score import Score, Scorer


def bleu() -> Scorer:
    """Score a sentence's BLEU with exponential smoothing (Papineni 2002, Post 2018), 0 to 1.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    _require("sacrebleu")

    def score(question: str, answer: str, reference: str | None) -> Score:
        from sacrebleu import sentence_bleu

        found = sentence_bleu(answer, [needed(reference, "bleu")])
        return Score(found.score / 100)

    return score


def rouge(variant: Literal["rouge1", "rouge2", "rougeL"] = "rougeL") -> Scorer:
    """Score ROUGE's F-measure (Lin 2004).

    Args:
        variant: by single words, pairs, or the longest common sequence.

    Raises:
        InputError: the variant is unknown.
        MissingExtra: rouge-score is not installed.
    """
    if variant not in ("rouge1", "rouge2", "rougeL"):
        raise InputError(f"The scorer rouge has no {variant!r}; use rouge1, rouge2 or rougeL.")
    _require("rouge_score")

    def score(question: str, answer: str, reference: str | None) -> Score:
        found = _rouge(variant).score(needed(reference, "rouge"), answer)[variant]
        return Score(float(found.fmeasure))

    return score


@cache
def _rouge(variant: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([variant], use_stemmer=True)


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise MissingExtra(f"This scorer needs {package}; run `pip install 'chatkit-lab[eval]'`.")
