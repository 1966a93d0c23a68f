"""Finds one's own messages by their words: an index in the clear, or a scan of what is sealed."""

import asyncio
import heapq
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from sqlalchemy import func, select, text

from chatkit.errors import InputError
from chatkit.sealing import Seal
from chatkit.store.database import Database
from chatkit.store.keys import Keys
from chatkit.store.records import message_from_text
from chatkit.store.schema import conversations, nodes
from chatkit.store.text_index import term, words_of
from chatkit.store.transaction import Transaction

SNIPPET_CHARACTERS = 80
MOST_CHARACTERS = 500
_BATCH = 2_000


class Hit(NamedTuple):
    """A message that was found.

    Args:
        conversation: where it is.
        node: its name.
        role: who said it.
        snippet: the words around the first match.
        score: how well it fits; more is better.
        created: when it was said, in seconds since 1970.
    """

    conversation: str
    node: str
    role: str
    snippet: str
    score: float
    created: float


class Search:
    """Searches the conversations of one user.

    Args:
        database: where they are.
        keys: what opens them.
    """

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    async def find(self, user: str, query: str, limit: int = 20) -> tuple[Hit, ...]:
        """Find messages that hold every word of the query, the best first.

        A word also finds longer words that begin with it. Capital letters do not count.

        Args:
            user: whose messages.
            query: words.
            limit: how many hits at most.

        Raises:
            InputError: the query has no word, or is too long.
        """
        words = words_of(query)
        if not words or len(query) > MOST_CHARACTERS:
            raise InputError(
                f"Search for at least one word, and at most {MOST_CHARACTERS} characters."
            )
        rows = await self._candidates(user, words)
        # What is deleted in this moment loses its key before its rows.
        seals = await self._keys.alive(user, {row.conversation_id for row in rows})
        rows = [row for row in rows if row.conversation_id in seals]
        return await asyncio.to_thread(_best, rows, seals, words, limit)

    async def _candidates(self, user: str, words: Sequence[str]) -> list[Any]:
        query = (
            select(
                nodes.c.id, nodes.c.conversation_id, nodes.c.role, nodes.c.sealed, nodes.c.created
            )
            .join(conversations, conversations.c.id == nodes.c.conversation_id)
            .where(conversations.c.user_id == user, nodes.c.kind == "message")
        )
        if not self._keys.encrypted:
            query = query.where(nodes.c.number.in_(self._indexed(words)))

        async def ask(connection: Transaction) -> list[Any]:
            return list(await connection.execute(query))

        return await self._database.read(ask)

    def _indexed(self, words: Sequence[str]) -> Any:
        """Ask the full-text index for the numbers of messages with these words."""
        if self._database.is_sqlite:
            match = " ".join(f"{term(word)}*" for word in words)
            return text("SELECT rowid FROM node_text WHERE node_text MATCH :match").bindparams(
                match=match
            )
        terms = " & ".join(f"{term(word)}:*" for word in words)
        vector = func.to_tsvector(text("'simple'"), text("node_text.text"))
        return (
            select(text("node_text.number"))
            .select_from(text("node_text"))
            .where(vector.op("@@")(func.to_tsquery(text("'simple'"), terms)))
        )


def _best(
    rows: Sequence[Any], seals: dict[str, Seal], words: Sequence[str], limit: int
) -> tuple[Hit, ...]:
    patterns = [re.compile(rf"\b{word}") for word in words]
    found = _matches(rows, seals, words, patterns)
    # Only what is shown is worth a snippet.
    best = heapq.nlargest(limit, found, key=lambda match: (match.score, match.row.created))
    return tuple(_hit(match, patterns[0]) for match in best)


class _Match(NamedTuple):
    """A message with every word, and how well it fits."""

    row: Any
    content: str
    score: float


def _matches(
    rows: Sequence[Any],
    seals: dict[str, Seal],
    words: Sequence[str],
    patterns: Sequence[re.Pattern[str]],
) -> Iterator[_Match]:
    for row in rows:
        # Taken apart by place: ten thousand rows are read here, and names take longer.
        id, conversation, role, sealed, _ = row
        body = seals[conversation].open(sealed, f"node:{id}")
        # The whole JSON is searched first: most messages need not be taken apart.
        folded = body.casefold()
        for word in words:
            if word not in folded:
                break
        else:
            content = message_from_text(role, body).content
            folded = content.casefold()
            counts = [len(pattern.findall(folded)) for pattern in patterns]
            if all(counts):
                # How often the words occur in how long a text: the core of TF-IDF, less IDF.
                yield _Match(row, content, sum(counts) / (1.0 + len(content) / 1_000))


def _hit(match: _Match, first_word: re.Pattern[str]) -> Hit:
    row, place = match.row, first_word.search(match.content.casefold())
    snippet = _snippet(match.content, _unfolded(match.content, place.start() if place else 0))
    return Hit(row.conversation_id, row.id, row.role, snippet, match.score, row.created)


def _unfolded(content: str, place: int) -> int:
    """Give the place in a text of a place in it without capital letters, which may be longer."""
    lengths = accumulate(len(character.casefold()) for character in content[: place + 1])
    return next((n for n, length in enumerate(lengths) if length > place), 0)


def _snippet(content: str, place: int) -> str:
    """Cut out the words around a place."""
    begin = max(0, place - SNIPPET_CHARACTERS // 2)
    end = min(len(content), place + SNIPPET_CHARACTERS)
    cut = " ".join(content[begin:end].split())
    return f"{'…' if begin else ''}{cut}{'…' if end < len(content) else ''}"
