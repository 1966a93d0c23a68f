"""Votes without names: pairs of answers in a drawn order, the sides drawn too."""

import random
from itertools import combinations
from typing import Literal, NamedTuple

from chatkit.comparison.result import Ballot, Comparison
from chatkit.errors import InputError

Choice = Literal["left", "right", "tie", "skip"]
_WON: dict[str, float] = {"left": 1.0, "right": 0.0, "tie": 0.5}


class Pair(NamedTuple):
    """Two answers to one prompt.

    Args:
        prompt: its place.
        left: the model whose answer stands left.
        right: the other.
    """

    prompt: int
    left: str
    right: str


class Voting:
    """Goes through the pairs of different answers that nobody has voted on.

    Args:
        comparison: whose answers.
        seed: of the order and of the sides; None draws one.
    """

    def __init__(self, comparison: Comparison, seed: int | None = None) -> None:
        self.comparison = comparison
        self.place = 0
        self._cast: list[Ballot | None] = []
        self.pairs = _pairs(comparison, random.Random(seed))

    @property
    def current(self) -> Pair | None:
        """The pair to vote on; None when all are done."""
        return self.pairs[self.place] if self.place < len(self.pairs) else None

    def choose(self, choice: Choice) -> None:
        """Vote on the current pair, and go to the next one.

        Raises:
            InputError: all pairs are done.
            StoreUnavailable: the vote could not be stored; the pair stays.
        """
        pair = self.current
        if pair is None:
            raise InputError("All pairs are voted on; compare more.")
        ballot = None
        if choice != "skip":
            ballot = self.comparison.prefer(*pair, _WON[choice], blind=True)
        self._cast.append(ballot)
        self.place += 1

    def undo(self) -> None:
        """Go back to the pair before, and take its vote back; nothing at the first."""
        if self.place == 0:
            return
        if ballot := self._cast[-1]:
            self.comparison.take_back(ballot)
        self._cast.pop()
        self.place -= 1


def _pairs(comparison: Comparison, draw: random.Random) -> list[Pair]:
    voted = {
        (ballot.prompt, frozenset(ballot.vote[:2]))
        for ballot in comparison.ballots
        if ballot.kind == "person"
    }
    found = []
    for prompt in range(len(comparison.prompts)):
        answers = {
            model: reply.text
            for model in comparison.models
            if (reply := comparison.replies.get((prompt, model))) and reply.whole
        }
        for left, right in combinations(answers, 2):
            if answers[left] != answers[right] and (prompt, frozenset((left, right))) not in voted:
                sides = (left, right) if draw.random() < 0.5 else (right, left)
                found.append(Pair(prompt, *sides))
    draw.shuffle(found)
    return found
