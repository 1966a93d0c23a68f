"""The full-text index, filled only while encryption is off: FTS5 on SQLite, GIN on PostgreSQL."""

from collections.abc import Mapping

from sqlalchemy import text

from chatkit.store.database import Database
from chatkit.store.transaction import Transaction

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
    rows = [{"id": id, "text": content} for id, content in texts.items()]
    if rows:
        await connection.execute(text(_DELETE[database.is_sqlite]), rows)
        await connection.execute(text(_INSERT[database.is_sqlite]), rows)
