"""The full-text index, filled only while encryption is off: FTS5 on SQLite, GIN on PostgreSQL."""

import re
from collections.abc import Mapping

from sqlalchemy import text

from chatkit.store.database import Database
from chatkit.store.transaction import Transaction

# A longer word is found by its beginning; PostgreSQL indexes none above 2,047 bytes.
LONGEST_WORD = 100
# PostgreSQL refuses more than a mebibyte in one place; the words beyond are not in the index.
MOST_BYTES = 900_000
_BYTES_BESIDE = 8
_WORD = re.compile(r"\w+")
_OTHER = re.compile(r"[^a-z0-9]")
_INSERT = {
    True: "INSERT INTO node_text (rowid, text) SELECT number, :text FROM nodes WHERE id = :id",
    False: "INSERT INTO node_text (number, text) SELECT number, :text FROM nodes WHERE id = :id",
}
_DELETE = {
    True: "DELETE FROM node_text WHERE rowid = (SELECT number FROM nodes WHERE id = :id)",
    False: "DELETE FROM node_text WHERE number = (SELECT number FROM nodes WHERE id = :id)",
}


async def make_searchable(
    connection: Transaction, database: Database, texts: Mapping[str, str]
) -> None:
    """Enter the texts of messages, in place of what was entered for them before."""
    rows = [{"id": id, "text": _indexed(content)} for id, content in texts.items()]
    if rows:
        await connection.execute(text(_DELETE[database.is_sqlite]), rows)
        await connection.execute(text(_INSERT[database.is_sqlite]), rows)


def words_of(text: str) -> list[str]:
    """Cut a text into its words, whatever their capital letters."""
    return _WORD.findall(text.casefold())


def term(word: str) -> str:
    """Write a word so that both databases take it for one word: each has rules of its own."""
    # Letter by letter, so that the beginning of a word is the beginning of its term.
    return "w" + _OTHER.sub(lambda letter: f"z{ord(letter[0]):x}z", word[:LONGEST_WORD])


def _indexed(content: str) -> str:
    terms: list[str] = []
    room = MOST_BYTES
    for one in dict.fromkeys(map(term, words_of(content))):
        room -= len(one) + _BYTES_BESIDE
        if room < 0:
            break
        terms.append(one)
    return " ".join(terms)
