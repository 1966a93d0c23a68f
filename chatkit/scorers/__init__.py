"""Scorers: how good an answer is, as a program can tell; fine-tuning and evaluation share them."""

from chatkit.scorers.naming import scorer_of
from chatkit.scorers.score import Score, Scorer

__all__ = ["Score", "Scorer", "scorer_of"]
