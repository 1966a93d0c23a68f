"""What a template wrote: text cut at its control tokens, and the ids of each piece."""

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain
from typing import NamedTuple

from chatkit.tokenizer import Encoded, Tokenizer


class Piece(NamedTuple):
    """A control token, or the text between two of them.

    Args:
        start: where it begins in the whole text.
        encoded: its tokens, with positions counted from `start`.
        control: whether it is a control token that the template wrote.
    """

    start: int
    encoded: Encoded
    control: bool


class Rendering:
    """A rendered conversation, as ids and as text.

    Args:
        text: the text, as a person may read it.
        pieces: what it is made of, in order; white space that a control token swallows is in
            none of them.
    """

    def __init__(self, text: str, pieces: Sequence[Piece]) -> None:
        self.text = text
        self.pieces = pieces

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The token ids."""
        return tuple(chain.from_iterable(piece.encoded.ids for piece in self.pieces))

    @property
    def tokens(self) -> int:
        """How many ids there are."""
        return self._before[-1]

    def ended(self, position: int) -> int:
        """Count the tokens that end at or before a position of the text."""
        piece = bisect_right(self._starts, position) - 1
        if piece < 0:
            return 0
        start, encoded, _ = self.pieces[piece]
        return self._before[piece] + bisect_right(encoded.ends, position - start)

    def begun(self, position: int) -> int:
        """Count the tokens that begin before a position of the text."""
        piece = bisect_left(self._starts, position) - 1
        if piece < 0:
            return 0
        start, encoded, _ = self.pieces[piece]
        return self._before[piece] + bisect_left(encoded.starts, position - start)

    def shares(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Count the tokens of each span; a token across two of them counts for the first.

        Args:
            spans: starts and ends in the text, in its order.
        """
        counts: list[int] = []
        taken = 0
        for start, end in spans:
            first = max(taken, self.ended(start))
            # Some tokenizers report a token of mere white space as empty, at its end.
            taken = max(first, self.begun(end), self.ended(end)) if start < end else taken
            counts.append(max(0, taken - first))
        return counts

    @cached_property
    def _starts(self) -> list[int]:
        return [piece.start for piece in self.pieces]

    @cached_property
    def _before(self) -> list[int]:
        """How many tokens there are before each piece, and in the end."""
        return list(accumulate((len(piece.encoded.ids) for piece in self.pieces), initial=0))


class Cutter:
    """Cuts what a template wrote at its control tokens, and encodes what is between them.

    Args:
        tokenizer: the model's tokenizer.
        spelled: matches the spelling of any control token.
    """

    def __init__(self, tokenizer: Tokenizer, spelled: re.Pattern[str]) -> None:
        self._tokenizer = tokenizer
        self._spelled = re.compile(f"({spelled.pattern})")
        self._encoded = {
            text: Encoded(array("I", [token.id]), array("I", [0]), array("I", [len(text)]))
            for text, token in tokenizer.control.items()
        }

    def pieces(self, rendered: str, uncover: Callable[[str], str]) -> Iterator[Piece]:
        """Give text and control tokens in their order.

        Args:
            rendered: what the template wrote, with spellings inside of messages covered.
            uncover: puts them back.
        """
        position, begins, swallows = 0, True, False
        # The expression has one group, so every second part is a control token.
        parts: list[str | None] = [*self._spelled.split(rendered), None]
        for between, spelling in zip(parts[::2], parts[1::2], strict=True):
            control = self._tokenizer.control[spelling] if spelling else None
            assert between is not None
            text = between.lstrip() if swallows else between
            kept = text.rstrip() if control and control.lstrip else text
            if kept:
                plain = uncover(kept)
                encoded = self._tokenizer.encode_piece(plain, begins=begins)
                yield Piece(position + len(between) - len(text), encoded, control=False)
                position += len(plain) - len(kept)
                begins = False
            position += len(between)
            if control:
                yield Piece(position, self._encoded[control.text], control=True)
                position += len(control.text)
                begins, swallows = False, control.rstrip
