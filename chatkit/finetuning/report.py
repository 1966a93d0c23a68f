"""What became of every row that was read: counted, and named where it was left out."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from chatkit.finetuning.rows import Origin

SHOWN = 5


class Refused(NamedTuple):
    """A row that cannot be used, where it stands, and why."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: {self.reason}"


@dataclass(slots=True)
class DataReport:
    """What became of the rows.

    Args:
        formats: what each source was found to be.
        read: rows that were read.
        train: rows to train on, as often as their weight says.
        held_out: rows to measure on.
        duplicates: rows that were seen before.
        too_long: rows that were dropped since they are too long.
        cut: rows that lost their oldest turns.
        over_budget: rows after the token budget was spent.
        tokens: tokens of the rows to train on.
        trained_tokens: how many of them are trained.
        differing_in_length: pairs of which one answer is the beginning of the other.
        lengths: how many rows to train on have so many tokens, by the power of two above.
        refused: rows that cannot be used.
        erased: rows of conversations that were deleted.
        people: users and conversations in the rows to train on.
    """

    formats: dict[str, str] = field(default_factory=dict)
    read: int = 0
    train: int = 0
    held_out: int = 0
    duplicates: int = 0
    too_long: list[Refused] = field(default_factory=list)
    cut: int = 0
    over_budget: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    differing_in_length: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)
    erased: int = 0
    people: set[tuple[str, str]] = field(default_factory=set)

    def note_person(self, origin: Origin) -> None:
        """Note whose row it is, so that one can ask later which adapters saw whom."""
        if origin.user is not None or origin.conversation is not None:
            self.people.add((origin.user or "", origin.conversation or ""))

    def note_length(self, tokens: int, trained: int) -> None:
        """Count a row to train on."""
        self.tokens += tokens
        self.trained_tokens += trained
        self.lengths[1 << max(0, tokens - 1).bit_length()] += 1

    def as_json(self) -> dict[str, Any]:
        """Give the counts, without the people."""
        return {
            "formats": self.formats,
            "read": self.read,
            "train": self.train,
            "held_out": self.held_out,
            "refused": [str(one) for one in self.refused],
            "duplicates": self.duplicates,
            "too_long": [str(one) for one in self.too_long],
            "cut": self.cut,
            "over_budget": self.over_budget,
            "erased": self.erased,
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "pairs_differing_in_length_only": self.differing_in_length,
            "lengths": {str(most): count for most, count in sorted(self.lengths.items())},
        }


def report_of(path: Path) -> DataReport:
    """Read the counts that a run's first process wrote."""
    said = json.loads(path.read_text("utf-8"))
    names = ("formats", "read", "train", "held_out", "tokens", "trained_tokens")
    return DataReport(**{name: said[name] for name in names})
