"""What a link in an answer leads to: the title and a sentence of its page, as text."""

import asyncio
import html
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from urllib.parse import urlsplit

from chatkit.errors import InputError
from chatkit.ui.public_web import PublicWeb

MOST_LINKS = 3
_LONGEST_TITLE, _LONGEST_TEXT = 120, 240
_REMEMBERED, _AT_ONCE = 500, 4
_FRESH_SECONDS, _FAILED_SECONDS = 86_400.0, 600.0
_LINK = re.compile(r'<a href="(https?://[^"]+)"')
_UNSEEN = re.compile(r"[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Preview:
    """What a page says of itself.

    Args:
        url: where it is.
        site: the name of its host.
        title: what it is called.
        text: what it is about, empty when it does not say.
    """

    url: str
    site: str
    title: str
    text: str


class Previews:
    """Looks at pages, and remembers for a day what they said.

    Args:
        web: reads pages.
    """

    def __init__(self, web: PublicWeb) -> None:
        self._web = web
        self._known: OrderedDict[str, tuple[float, Preview | None]] = OrderedDict()
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def of(self, answer: str) -> tuple[Preview, ...]:
        """Look at the first links of an answer's HTML; those that say nothing are left out."""
        links = [html.unescape(one) for one in _LINK.findall(answer)]
        wanted = list(dict.fromkeys(links))[:MOST_LINKS]
        found = await asyncio.gather(*map(self._one, wanted))
        return tuple(one for one in found if one is not None)

    async def _one(self, url: str) -> Preview | None:
        now = time.monotonic()
        until, known = self._known.get(url, (0.0, None))
        if now < until:
            return known
        async with self._turn:
            try:
                found = read_preview(url, await self._web.head(url))
            except InputError:
                found = None
        self._known[url] = (now + (_FRESH_SECONDS if found else _FAILED_SECONDS), found)
        self._known.move_to_end(url)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found


@cache
def shared_previews(loop: asyncio.AbstractEventLoop) -> Previews:
    """Give the previews that an event loop shares."""
    return Previews(PublicWeb())


def read_preview(url: str, page: str) -> Preview | None:
    """Read what a page says of itself; None when it has no title."""
    reader = _Head()
    reader.feed(page)
    title = _plain(reader.said.get("og:title") or reader.title, _LONGEST_TITLE)
    text = _plain(
        reader.said.get("og:description") or reader.said.get("description") or "", _LONGEST_TEXT
    )
    return Preview(url, urlsplit(url).hostname or "", title, text) if title else None


class _Head(HTMLParser):
    """Reads the title and what stands in `meta`."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.said: dict[str, str] = {}
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a `meta`, or begin the title."""
        if tag == "title" and not self.title:
            self._in_title = True
        if tag == "meta":
            named = dict(attrs)
            name = (named.get("property") or named.get("name") or "").lower()
            self.said.setdefault(name, named.get("content") or "")

    def handle_endtag(self, tag: str) -> None:
        """End the title."""
        if tag == "title":
            self._in_title = False

    def handle_data(self, data: str) -> None:
        """Take the title."""
        if self._in_title:
            self.title += data


def _plain(text: str, most: int) -> str:
    plain = " ".join(_UNSEEN.sub(" ", text).split())
    return plain if len(plain) <= most else f"{plain[: most - 1].rstrip()}…"
