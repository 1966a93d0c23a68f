"""Deletion that is final: keys, rows, search entries and files, and no backup brings them back."""

import time
from collections.abc import Sequence

from sqlalchemy import delete, func, select, text, update

from chatkit.errors import InputError
from chatkit.store.audit import Audit
from chatkit.store.conversations import owned
from chatkit.store.database import Database
from chatkit.store.keys import Keys
from chatkit.store.schema import conversations, users
from chatkit.store.transaction import Transaction

DAY_SECONDS = 86_400.0


class Erasure:
    """Deletes conversations and people.

    Keys go first: from then on nothing can be read, whatever happens in the middle.

    Args:
        database: where the rows are.
        keys: what opens them.
        audit: where it is noted.
    """

    def __init__(self, database: Database, keys: Keys, audit: Audit) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit

    async def conversation(self, user: str, id: str) -> None:
        """Delete a conversation with all that belongs to it.

        Raises:
            NotFound: there is none of this name, or it is someone else's.
        """

        async def check(connection: Transaction) -> None:
            await owned(connection, user, id)

        await self._database.read(check)
        await self._keys.destroy([id])
        await self._remove([id], ())
        await self._audit.note(user, "delete conversation", id)

    async def user(self, user: str, actor: str | None = None) -> tuple[str, ...]:
        """Delete a person with all that belongs to them.

        Args:
            user: who goes.
            actor: who asked for it; the person themselves when None.

        Returns: the names of the conversations that went.
        """
        ids = await self._ids(conversations.c.user_id == user)
        await self._keys.destroy(ids, user)
        await self._remove(ids, (user,))
        await self._audit.note(actor or user, "delete user", user)
        return tuple(ids)

    async def set_retention(self, user: str, days: float | None) -> None:
        """Let a user's conversations go so many days after their last message; None keeps them.

        Raises:
            InputError: the number of days is not above 0.
        """
        if days is not None and not days > 0:
            raise InputError(f"The retention is {days} days; give a number above 0, or none.")

        async def work(connection: Transaction) -> None:
            new = {"id": user, "created": time.time()}
            await connection.execute(self._database.insert_new(users), new)
            change = update(users).where(users.c.id == user)
            await connection.execute(change.values(retention_days=days))
            await self._audit.note_within(connection, user, "set retention", user)

        await self._database.write(work)

    async def expire(self, days: float | None, now: float) -> tuple[str, ...]:
        """Delete what is older than its user's retention, or than everybody's.

        Args:
            days: the retention for everybody, None when only users have set theirs.
            now: the present, in seconds since 1970.

        Returns: the names of the conversations that went.
        """
        age = (now - conversations.c.updated) / DAY_SECONDS
        own = select(users.c.retention_days).where(users.c.id == conversations.c.user_id)
        kept = own.scalar_subquery()
        too_old = age > kept
        if days is not None:
            too_old = age > func.coalesce(_least(self._database, kept, days), days)
        ids = await self._ids(too_old)
        if ids:
            await self._keys.destroy(ids)
            await self._remove(ids, ())
            for id in ids:
                await self._audit.note("retention", "expire", id)
        return tuple(ids)

    async def replay(self) -> int:
        """Delete again whatever was erased once: after a restore, or a crash in the middle.

        Returns: how many conversations and people went.
        """
        erased = await self._keys.erased()
        if not erased:
            return 0
        ids = [id for id in await self._ids(None) if self._keys.pseudonym(id) in erased]
        people = [id for id in await self._people() if self._keys.pseudonym(id) in erased]
        if ids or people:
            await self._remove(ids, people)
        return len(ids) + len(people)

    async def _remove(self, ids: Sequence[str], people: Sequence[str]) -> None:
        async def work(connection: Transaction) -> None:
            for start in range(0, len(ids), 500):
                some = conversations.c.id.in_(ids[start : start + 500])
                await connection.execute(delete(conversations).where(some))
            for start in range(0, len(people), 500):
                some = users.c.id.in_(people[start : start + 500])
                await connection.execute(delete(users).where(some))
            if self._database.is_sqlite and not self._keys.encrypted:
                # FTS5 keeps deleted words until its parts are merged.
                await connection.execute(
                    text("INSERT INTO node_text (node_text) VALUES ('optimize')")
                )

        await self._database.write(work)
        await self._database.forget_remnants()

    async def _ids(self, condition: "object | None") -> list[str]:
        query = select(conversations.c.id)
        if condition is not None:
            query = query.where(condition)  # type: ignore[arg-type]

        async def ask(connection: Transaction) -> list[str]:
            return list((await connection.execute(query)).scalars())

        return await self._database.read(ask)

    async def _people(self) -> list[str]:
        async def ask(connection: Transaction) -> list[str]:
            return list((await connection.execute(select(users.c.id))).scalars())

        return await self._database.read(ask)


def _least(database: Database, kept: "object", days: float) -> "object":
    """The shorter of two retentions, in each database's own words; null where one is null."""
    return func.min(kept, days) if database.is_sqlite else func.least(kept, days)
