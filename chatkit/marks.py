"""Marks around messages that show where in a rendering each of them stands."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chatkit.jinja import JsonText


class Place(NamedTuple):
    """Where a text of a message stands in a rendering: `text[start:end]`.

    Args:
        message: the message's index.
        start: its first character.
        end: after its last character.
    """

    message: int
    start: int
    end: int


class Reading(NamedTuple):
    """A rendering with its marks taken out.

    Args:
        text: what is left.
        places: what the marks showed, in the order of the text.
        paired: whether every mark had its other half.
    """

    text: str
    places: list[Place]
    paired: bool


class Marks:
    """Puts marks around texts, and reads them from what a template made of those.

    Args:
        opening: a character that occurs nowhere else.
        closing: another.
        inside: put them inside the outer white space, for a template that trims.
    """

    def __init__(self, opening: str, closing: str, *, inside: bool) -> None:
        self._opening, self._closing, self._inside = opening, closing, inside
        self._mark = re.compile(f"{opening}([0-9]+){opening}|{closing}")

    def mark_message(self, index: int, dictionary: dict[str, Any]) -> None:
        """Mark all that a message says; what is empty stays so, since templates ask for it."""
        for key in ("content", "reasoning_content"):
            if dictionary.get(key):
                dictionary[key] = self.around(index, dictionary[key])
        for call in dictionary.get("tool_calls", ()):
            function = call["function"]
            function["arguments"] = JsonText(self.around(index, function["arguments"]))

    def mark_answer(self, index: int, dictionary: dict[str, Any]) -> None:
        """Mark what an assistant answered, empty or not, unless it called something."""
        if dictionary["role"] == "assistant" and "tool_calls" not in dictionary:
            dictionary["content"] = self.around(index, dictionary["content"])

    def around(self, message: int, text: str) -> str:
        """Mark a text as the message's."""
        body = text.strip() if self._inside else text
        before, after = text.split(body, 1) if body else (text, "")
        return f"{before}{self._opening}{message}{self._opening}{body}{self._closing}{after}"

    def read(self, marked: str) -> Reading:
        """Take the marks out of what a template wrote."""
        # The expression has one group: texts and the messages' indices, None where one ends.
        parts = self._mark.split(marked)
        texts, marks = parts[::2], parts[1::2]
        places: list[Place] = []
        message, start, position = None, 0, 0
        for text, mark in zip(texts, marks, strict=False):
            position += len(text)
            if mark is not None:
                message, start = int(mark), position
            elif message is not None:
                places.append(Place(message, start, position))
                message = None
        return Reading("".join(texts), places, len(marks) == 2 * len(places))


Mark = Callable[[Marks, int, dict[str, Any]], None]
"""One of the ways in which `Marks` marks the message with an index, as a template reads it."""


def search(texts: Sequence[str], rendered: str) -> list[Place]:
    """Look for each text after the one before it, for where marks change what is rendered.

    Args:
        texts: what each message says.
        rendered: what the template made of them.
    """
    places: list[Place] = []
    position = 0
    for message, text in enumerate(texts):
        body = text.strip()
        start = rendered.find(body, position) if body else -1
        if start >= 0:
            position = start + len(body)
            places.append(Place(message, start, position))
    return places
