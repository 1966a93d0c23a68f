"""Markdown as HTML that formats text and can do nothing else.

Raw HTML is shown as text, and links lead to web and mail addresses only. Images, sound and films
are shown from sources that were allowed, and from nowhere else: those become links. So nothing in
an answer runs, and nothing is fetched from a stranger until a person clicks. Code is coloured here;
maths is marked as such, and typeset where it is shown.

Source: CommonMark 0.31 with GFM's tables, task lists and strikethrough; maths in dollars and in
TeX's brackets.
"""

import re
from collections.abc import MutableMapping, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import nh3

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

TAGS = {
    *("a", "blockquote", "br", "code", "div", "em"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "hr"),
    *("li", "ol", "p", "pre", "s", "span", "strong"),
    *("table", "tbody", "td", "th", "thead", "tr", "ul"),
}
ATTRIBUTES = {
    "a": {"href", "title"},
    "code": {"class"},
    "div": {"class"},
    "ol": {"start"},
    "pre": {"data-language"},
    "span": {"class", "role", "aria-label"},
}
MEDIA_ATTRIBUTES = {
    "img": {"src", "alt", "title", "loading", "referrerpolicy"},
    "audio": {"src", "title", "controls", "preload", "aria-label"},
    "video": {"src", "title", "controls", "preload", "aria-label"},
}
SCHEMES = {"http", "https", "mailto"}
_SOUNDS = (".mp3", ".m4a", ".oga", ".ogg", ".opus", ".wav", ".flac")
_FILMS = (".mp4", ".m4v", ".webm", ".ogv", ".mov")
# Longer code stays in one colour, and so does code that is still growing beyond the second.
_MOST_COLOURED, _MOST_GROWING = 50_000, 3_000
# So much unfinished maths is waited for, before it is taken as the text that it may be.
_MOST_MATHS = 4_000
_UNFINISHED = re.compile(r"^[ ]{0,3}(\$\$|\\\[)", re.MULTILINE)
_CLOSING = {"$$": "$$", "\\[": "\\]"}
_LANGUAGE = re.compile(r"[\w+#.-]{1,30}")


def to_html(markdown: str, *, coloured: bool = True, media: frozenset[str] = frozenset()) -> str:
    """Give a finished text as safe HTML.

    Args:
        markdown: the text.
        coloured: whether code is coloured by its language.
        media: origins from which images, sound and films are shown, as `https://example.org`.
    """
    return GrowingMarkdown(media).end(markdown, _MOST_COLOURED if coloured else 0)


class GrowingMarkdown:
    """Markdown that comes in pieces: a block that has ended is rendered once, never again.

    One thing differs from rendering the whole at the end: a reference link works only after the
    line that defines it.

    Args:
        media: origins from which images, sound and films are shown, as `https://example.org`.
    """

    def __init__(self, media: frozenset[str] = frozenset()) -> None:
        self._open = ""
        self._media = media
        self._references: MutableMapping[str, Any] = {}

    def add(self, text: str) -> tuple[str, str]:
        """Take a piece of text.

        Returns: the HTML of what has ended with this piece, and of what is still open.
        """
        self._open += text.replace("\r", "")
        tokens = _parser().parse(self._open, self._references)
        index, line = self._open_block(tokens)
        self._open = "\n".join(self._open.split("\n")[line:])
        return self._html(tokens[:index]), self._html(tokens[index:], _MOST_GROWING)

    def end(self, text: str = "", most_coloured: int = _MOST_COLOURED) -> str:
        """Give the HTML of what is still open with a last piece, now that nothing more comes.

        Args:
            text: the last piece.
            most_coloured: longer code stays in one colour.
        """
        self._open += text.replace("\r", "")
        return self._html(_parser().parse(self._open, self._references), most_coloured)

    def _open_block(self, tokens: "list[Token]") -> tuple[int, int]:
        """Find the last block whose first line is complete: where its tokens and lines begin."""
        complete = self._open.count("\n")
        maths = self._open_maths()
        found = (0, 0)
        for index, token in enumerate(tokens):
            outermost = token.level == 0 and token.nesting >= 0
            if outermost and token.map and token.map[0] < min(complete, maths + 1):
                found = (index, token.map[0])
        return found

    def _open_maths(self) -> int:
        """Find the line where maths begins that has not ended; its blank lines end no block."""
        for match in _UNFINISHED.finditer(self._open):
            rest = self._open[match.end() :]
            if _CLOSING[match[1]] not in rest and len(rest) < _MOST_MATHS:
                return self._open.count("\n", 0, match.start())
        return len(self._open)

    def _html(self, tokens: "Sequence[Token]", most_coloured: int = _MOST_COLOURED) -> str:
        parser = _parser()
        environment = {
            **self._references,
            "most coloured": most_coloured,
            "media": self._media,
        }
        html: str = parser.renderer.render(tokens, parser.options, environment)
        return nh3.clean(
            html,
            tags=TAGS | MEDIA_ATTRIBUTES.keys() if self._media else TAGS,
            attributes=ATTRIBUTES | MEDIA_ATTRIBUTES if self._media else ATTRIBUTES,
            attribute_filter=self._only_allowed if self._media else None,
            url_schemes=SCHEMES,
            # What a model calls a path leads nowhere on this server.
            url_relative="deny",
        )

    def _only_allowed(self, tag: str, attribute: str, value: str) -> str | None:
        allowed = attribute != "src" or _is_allowed(value, self._media)
        return value if allowed else None


@cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin
    from mdit_py_plugins.tasklists import tasklists_plugin
    from mdit_py_plugins.texmath import texmath_plugin

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    parser.enable(["table", "strikethrough"])
    # A price is no maths: no space inside of the dollars, and no digit beside them.
    dollarmath_plugin(parser, allow_space=False, allow_digits=False, double_inline=True)
    texmath_plugin(parser, delimiters="brackets")
    tasklists_plugin(parser)
    parser.add_render_rule("image", _medium)
    parser.add_render_rule("fence", _fence)
    parser.add_render_rule("code_block", _fence)
    # With raw HTML off, only the boxes of task lists are such tokens.
    parser.add_render_rule("html_inline", _task)
    for name in ("math_inline", "math_inline_double", "math_single"):
        parser.add_render_rule(name, _inline_maths)
    for name in ("math_block", "math_block_label", "math_block_eqno"):
        parser.add_render_rule(name, _block_maths)
    return parser


def _medium(
    renderer: Any, tokens: "Sequence[Token]", index: int, options: Any, environment: Any
) -> str:
    token = tokens[index]
    source, told = str(token.attrs["src"]), escape(token.content)
    if not _is_allowed(source, environment["media"]):
        return f'<a href="{escape(source)}">{told or escape(source)}</a>'
    path = urlsplit(source).path.lower()
    for tag, endings in (("audio", _SOUNDS), ("video", _FILMS)):
        if path.endswith(endings):
            return (
                f'<{tag} src="{escape(source)}" controls preload="none" aria-label="{told}">'
                f"</{tag}>"
            )
    return f'<img src="{escape(source)}" alt="{told}" loading="lazy" referrerpolicy="no-referrer">'


def _is_allowed(source: str, media: frozenset[str]) -> bool:
    """Tell whether a source is one of the allowed origins, to the letter."""
    if any(letter in source for letter in "\\\t\n\r "):
        return False
    try:
        parts = urlsplit(source)
    except ValueError:
        return False
    return f"{parts.scheme}://{parts.netloc}" in media


def _fence(
    renderer: Any, tokens: "Sequence[Token]", index: int, options: Any, environment: Any
) -> str:
    token = tokens[index]
    words = token.info.split(maxsplit=1)
    said = words[0] if words and _LANGUAGE.fullmatch(words[0]) else ""
    code = _coloured(token.content, said, environment["most coloured"])
    shown = f' data-language="{escape(said)}"' if said else ""
    named = f' class="language-{escape(said)}"' if said else ""
    return f"<pre{shown}><code{named}>{code}</code></pre>\n"


def _coloured(code: str, language: str, most: int) -> str:
    if not language or len(code) > most:
        return escape(code, quote=False)
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return escape(code, quote=False)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True, classprefix="c-")))


def _task(
    renderer: Any, tokens: "Sequence[Token]", index: int, options: Any, environment: Any
) -> str:
    done = 'checked="checked"' in tokens[index].content
    state, label = ("done", "Done") if done else ("open", "Not done")
    return f'<span class="task {state}" role="img" aria-label="{label}"></span>'


def _inline_maths(
    renderer: Any, tokens: "Sequence[Token]", index: int, options: Any, environment: Any
) -> str:
    kind = "block" if tokens[index].type == "math_inline_double" else "inline"
    return f'<span class="math {kind}">{escape(tokens[index].content, quote=False)}</span>'


def _block_maths(
    renderer: Any, tokens: "Sequence[Token]", index: int, options: Any, environment: Any
) -> str:
    text = escape(tokens[index].content.strip(), quote=False)
    return f'<div class="math block">{text}</div>\n'
