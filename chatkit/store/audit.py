"""The audit log: who did what to whose data, by pseudonyms, in a chain that shows changes."""

import hashlib
import json
import time
from typing import Any, Literal, NamedTuple

from sqlalchemy import insert, select, text

from chatkit.store.database import Database
from chatkit.store.keys import Keys
from chatkit.store.schema import audit
from chatkit.store.transaction import Transaction

Action = Literal[
    "delete conversation",
    "delete user",
    "delete branch",
    "export",
    "import",
    "fork",
    "backup",
    "restore",
    "rotate keys",
    "set retention",
    "expire",
    "add account",
    "bind account",
    "set role",
    "set password",
    "enable account",
    "disable account",
    "sign in",
    "end session",
]
FIRST = "0" * 64
_LOCK = 6_241_008


class Verdict(NamedTuple):
    """What checking the log found: how many entries hold, and the number of the first bad one."""

    entries: int
    broken_at: int | None


class Audit:
    """Adds to the log and checks it; the database itself refuses changes of entries.

    Args:
        database: where it is.
        keys: gives the pseudonyms.
    """

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    async def note(self, actor: str, action: Action, subject: str) -> None:
        """Note that a person did something to a conversation's or a person's data."""

        async def work(connection: Transaction) -> None:
            await self.note_within(connection, actor, action, subject)

        await self._database.write(work)

    async def note_within(
        self, connection: Transaction, actor: str, action: Action, subject: str
    ) -> None:
        """Note something inside a transaction, so that both happen or neither does."""
        if not self._database.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        query = select(audit.c.number, audit.c.hash).order_by(audit.c.number.desc()).limit(1)
        last = (await connection.execute(query)).first()
        entry: dict[str, Any] = {
            "number": last.number + 1 if last else 1,
            "at": time.time(),
            "actor": self._keys.pseudonym(actor),
            "action": action,
            "subject": self._keys.pseudonym(subject),
            "previous": last.hash if last else FIRST,
        }
        await connection.execute(insert(audit).values(**entry, hash=_hash(entry)))

    async def entries(self) -> tuple[dict[str, Any], ...]:
        """Give the whole log, oldest first."""

        async def ask(connection: Transaction) -> tuple[dict[str, Any], ...]:
            rows = await connection.execute(select(audit).order_by(audit.c.number))
            return tuple(dict(row._mapping) for row in rows)

        return await self._database.read(ask)

    async def newest(self, limit: int) -> tuple[dict[str, Any], ...]:
        """Give the last entries, newest first."""

        async def ask(connection: Transaction) -> tuple[dict[str, Any], ...]:
            query = select(audit).order_by(audit.c.number.desc()).limit(limit)
            return tuple(dict(row._mapping) for row in await connection.execute(query))

        return await self._database.read(ask)

    async def verify(self) -> Verdict:
        """Check that no entry was changed, taken out or put in between."""
        previous, count = FIRST, 0
        for entry in await self.entries():
            found = entry.pop("hash")
            in_place = entry["number"] == count + 1 and entry["previous"] == previous
            if not in_place or found != _hash(entry):
                return Verdict(count, count + 1)
            previous, count = found, count + 1
        return Verdict(count, None)


def _hash(entry: dict[str, Any]) -> str:
    canonical = json.dumps(entry, sort_keys=True).encode()
    return hashlib.sha256(canonical).hexdigest()
