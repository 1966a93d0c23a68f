"""Cuts a file of JSON into its conversations, so that one at a time is parsed.

Only brackets, strings and white space are understood here; each piece is parsed strictly later.
"""

import codecs
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import IO
from zipfile import BadZipFile

from chatkit.errors import ImportRefused
from chatkit.exchange.limits import MEBIBYTE, Budget
from chatkit.exchange.place import Place

MOST_BYTES = 16 * MEBIBYTE
_FEWEST_BYTES = MEBIBYTE
_HEADER_CHARACTERS = 4096
_BLANK = re.compile(r"[ \t\r\n]*+")
# Whole strings and all else but brackets; it stops at a string whose end has not been read.
_INSIDE = re.compile(r'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)


class Scanner:
    """Reads a file piece by piece.

    Args:
        file: UTF-8, with or without a byte order mark.
        place: the file's name.
        budget: what is left of the limits.
    """

    def __init__(self, file: IO[bytes], place: Place, budget: Budget) -> None:
        self.place = place
        self._file = file
        self._budget = budget
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._start = 0
        self._over = False

    def starts(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Step over the beginning of the file where it is this one.

        Raises:
            ImportRefused: the file is empty or not UTF-8.
        """
        if not self._next():
            raise self.place.refused("it is empty", "choose the file that was exported")
        while len(self._text) - self._start < _HEADER_CHARACTERS and self._more():
            pass
        match = pattern.match(self._text, self._start)
        if match:
            self._start = match.end()
        return match

    def listed(self) -> Iterator[str]:
        """Give the JSON of each element of a list whose beginning was stepped over.

        Raises:
            ImportRefused: the file ends before the list, or goes over a limit.
        """
        mark = self._next()
        if mark == "]":
            self._start += 1
            return
        while mark != "]":
            yield self._element()
            mark = self._next()
            if mark not in (",", "]"):
                raise self._broken(mark)
            self._start += 1

    def documents(self) -> Iterator[str]:
        """Give the JSON of each object in a file that has one after the other.

        Raises:
            ImportRefused: the file ends inside of one, or goes over a limit.
        """
        while self._next():
            yield self._element()

    def ends(self, tail: str) -> None:
        """Make sure that nothing but `tail` follows.

        Raises:
            ImportRefused: something else does.
        """
        for expected in tail:
            if self._next() != expected:
                raise self._broken(self._next())
            self._start += 1
        if self._next():
            raise self._broken(self._next())

    def _element(self) -> str:
        number = (self.place.conversation or 0) + 1
        self.place = replace(self.place, conversation=number)
        self._budget.spend("conversations", 1, self.place)
        if self._next() not in ("{", "["):
            raise self._broken(self._next())
        end, opened = self._end_of_element()
        self._budget.spend("values", opened, self.place)
        element = self._text[self._start : end]
        self._start = end
        return element

    def _end_of_element(self) -> tuple[int, int]:
        """Find where an element ends, and how many lists and objects it opens."""
        position, depth, opened = self._start, 0, 0
        while True:
            position = _past(_INSIDE, self._text, position)
            bracket = self._text[position : position + 1]
            if bracket in ("", '"'):
                position -= self._start
                self._more_of_element()
                continue
            position += 1
            opened += bracket in "[{"
            depth += 1 if bracket in "[{" else -1
            if depth == 0:
                return position, opened
            if depth > self._budget.limits.depth:
                raise self.place.refused(
                    f"more than {self._budget.limits.depth} lists and objects are inside each other"
                )

    def _more_of_element(self) -> None:
        allowed = self._budget.limits.conversation_characters
        if len(self._text) - self._start > allowed:
            raise self.place.refused(
                f"it has more than {allowed:,} characters",
                "import it without this conversation, or raise the limit if you trust it",
            )
        if not self._more():
            raise self._broken("")

    def _next(self) -> str:
        """Go to the next character that is not blank; empty at the end of the file."""
        while True:
            self._start = _past(_BLANK, self._text, self._start)
            if self._start < len(self._text) or not self._more():
                return self._text[self._start : self._start + 1]

    def _more(self) -> bool:
        """Read on; at least as much as is waiting, so that nothing is looked at too often."""
        if self._over:
            return False
        waiting = self._text[self._start :]
        data = self._read(min(max(_FEWEST_BYTES, len(waiting)), MOST_BYTES))
        self._budget.spend("bytes", len(data), self.place)
        self._over = not data
        try:
            self._text = waiting + self._decoder.decode(data, final=self._over)
        except UnicodeDecodeError:
            raise self.place.refused("it is not UTF-8", "export it again as UTF-8") from None
        self._start = 0
        return not self._over

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except (BadZipFile, zlib.error, EOFError):
            raise self.place.refused("the zip is damaged here", "download it again") from None

    def _broken(self, mark: str) -> ImportRefused:
        if not mark:
            return self.place.refused("the file ends in the middle", "download or export it again")
        return self.place.refused(f"its JSON is broken (there is {mark!r} where none belongs)")


def _past(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
