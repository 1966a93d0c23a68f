"""Puts tokenised examples into batches without padding: end to end, each with its own positions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chatkit.finetuning.masking import IGNORED
from chatkit.finetuning.packing import pack

if TYPE_CHECKING:
    from datasets import Dataset


def packed_rows(
    lengths: Sequence[int], capacity: int, *, packing: bool, first: int = 0
) -> "Dataset":
    """Say which examples each row holds.

    Args:
        lengths: tokens of each example.
        capacity: tokens of a row.
        packing: whether a row holds several examples.
        first: the place of the first example in the table that the rows are read from.
    """
    from datasets import Dataset

    single = ([place] for place in range(len(lengths)))
    rows = pack(lengths, capacity) if packing else single
    return Dataset.from_dict({"examples": [[first + place for place in row] for row in rows]})


class Joiner:
    """Joins the examples of some rows into one long row.

    No attention mask goes with it: positions that begin anew tell transformers where an example
    ends, and a mask would make it forget that.

    Args:
        table: the examples.
        lengths: whether the model takes the examples' lengths too.
    """

    def __init__(self, table: "Dataset", *, lengths: bool = False) -> None:
        self._table = table
        self._lengths = lengths

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make the tensors `input_ids`, `labels` and `position_ids`, each of shape (1, tokens)."""
        import torch

        ids: list[int] = []
        labels: list[int] = []
        positions: list[int] = []
        lengths: list[int] = []
        for row in rows:
            for example in self._table[row["examples"]]["input_ids"]:
                ids += example
                positions += range(len(example))
                lengths.append(len(example))
            for example in self._table[row["examples"]]["labels"]:
                # The end of one example does not predict the beginning of the next.
                labels += [IGNORED, *example[1:]]
        names = {"input_ids": ids, "labels": labels, "position_ids": positions}
        joined: dict[str, Any] = {name: torch.tensor([v]) for name, v in names.items()}
        return joined | ({"example_lengths": lengths} if self._lengths else {})
