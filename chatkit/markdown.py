"""An answer's Markdown as HTML that formats text and can do nothing else.

Raw HTML is shown as text, images become links, and links lead to web and mail addresses only:
nothing in an answer runs, and nothing is fetched until a person clicks.
"""

from collections.abc import MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any

import nh3

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

TAGS = set(
    [
        "a",
        "blockquote",
        "br",
        "code",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "strong",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
ATTRIBUTES = {"a": {"href", "title"}, "code": {"class"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}


def to_html(markdown: str) -> str:
    """Give a finished text as safe HTML."""
    closed, tail = GrowingMarkdown().add(markdown)
    return closed + tail


class GrowingMarkdown:
    """Markdown that comes in pieces: a block that has ended is rendered once, never again.

    One thing differs from rendering the whole at the end: a reference link works only after the
    line that defines it.
    """

    def __init__(self) -> None:
        self._open = ""
        self._references: MutableMapping[str, Any] = {}

    def add(self, text: str) -> tuple[str, str]:
        """Take a piece of text.

        Returns: the HTML of what has ended with this piece, and of what is still open.
        """
        self._open += text.replace("\r", "")
        tokens = _parser().parse(self._open, self._references)
        index, line = self._open_block(tokens)
        self._open = "\n".join(self._open.split("\n")[line:])
        return self._html(tokens[:index]), self._html(tokens[index:])

    def _open_block(self, tokens: "list[Token]") -> tuple[int, int]:
        """Find the last block whose first line is complete: where its tokens and lines begin."""
        complete = self._open.count("\n")
        found = (0, 0)
        for index, token in enumerate(tokens):
            outermost = token.level == 0 and token.nesting >= 0
            if outermost and token.map and token.map[0] < complete:
                found = (index, token.map[0])
        return found

    def _html(self, tokens: "list[Token]") -> str:
        parser = _parser()
        html: str = parser.renderer.render(tokens, parser.options, self._references)
        return nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, url_schemes=SCHEMES)


@cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    return parser.enable(["table", "strikethrough"]).disable("image")
