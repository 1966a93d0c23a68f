"""Marks what an answer has that another has not, word by word, in the answer's Markdown."""

import re
from difflib import SequenceMatcher

from chatkit.markdown import to_html

_WORD = re.compile(r"\s+|\S+")
# Longer texts are compared by their beginnings; the comparison takes the square of the words.
_MOST = 800
# Characters of no meaning, which a text may hold but no Markdown cares for.
_OPEN, _CLOSE = "\ue000", "\ue001"
_COVERED = str.maketrans({_OPEN: "\ufffd", _CLOSE: "\ufffd"})
_MARKED = re.compile(f"{_OPEN}([^<{_OPEN}{_CLOSE}]*){_CLOSE}")
# What makes a list, a heading or a fence has to stay what it is, and so has a link.
_SYNTAX = re.compile(r"[-*+#>|=_~]+|\d+[.)]|```.*|~~~.*|.*(?:\]\(|://|@).*")
_INNER = re.compile(r"^([\W_]*)(.*?)([\W_]*)$", re.DOTALL)


def marked_differences(before: str, now: str) -> str:
    """Give a text's Markdown as safe HTML, with the words that another has not in marks.

    Args:
        before: what it is compared with.
        now: the text that is given.
    """
    old, new = (_WORD.findall(text.translate(_COVERED)) for text in (before, now))
    matcher = SequenceMatcher(None, old[:_MOST], new[:_MOST], autojunk=False)
    parts: list[str] = []
    for kind, _, _, start, end in matcher.get_opcodes():
        words = new[start:end]
        parts += words if kind == "equal" else map(_cover, words)
    html = _MARKED.sub(r"<mark>\1</mark>", to_html("".join(parts + new[_MOST:]), coloured=False))
    return html.replace(_OPEN, "").replace(_CLOSE, "")


def _cover(word: str) -> str:
    """Put a word between two characters that become marks, less what Markdown reads."""
    if word.isspace() or _SYNTAX.fullmatch(word):
        return word
    match = _INNER.match(word)
    if match is None or not match[2]:
        return word
    return f"{match[1]}{_OPEN}{match[2]}{_CLOSE}{match[3]}"
