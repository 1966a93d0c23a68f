"""Marks what an answer has that another has not, word by word."""

import re
from difflib import SequenceMatcher
from html import escape

_WORD = re.compile(r"\s+|\S+")
# Longer texts are compared by their beginnings; the comparison takes the square of the words.
_MOST = 800


def marked_differences(before: str, now: str) -> str:
    """Give a text as HTML, with the words that another has not in marks.

    Args:
        before: what it is compared with.
        now: the text that is given.
    """
    old, new = (_WORD.findall(text) for text in (before, now))
    matcher = SequenceMatcher(None, old[:_MOST], new[:_MOST], autojunk=False)
    parts: list[str] = []
    for kind, _, _, start, end in matcher.get_opcodes():
        text = escape("".join(new[start:end]))
        parts.append(text if kind == "equal" or not text.strip() else f"<mark>{text}</mark>")
    return "".join(parts) + escape("".join(new[_MOST:]))
