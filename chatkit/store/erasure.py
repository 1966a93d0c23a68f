"""Deletion that is final: keys, rows, search entries and files, and no backup brings them back."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import SelectBase, delete, select, text, union, update

from chatkit.errors import InputError
from chatkit.store.audit import Action, Audit
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
        await self._remove([id], (), [_Note(user, "delete conversation", id)])

    async def user(self, user: str, actor: str | None = None) -> tuple[str, ...]:
        """Delete a person with all that belongs to them.

        Args:
            user: who goes.
            actor: who asked for it; the person themselves when None.

        Returns: the names of the conversations that went.
        """
        ids = await self._ids(select(conversations.c.id).where(conversations.c.user_id == user))
        lives = [_life(*row) for row in await self._people(user)]
        await self._keys.destroy([*ids, *lives], user)
        await self._remove(ids, (user,), [_Note(actor or user, "delete user", user)])
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
        ids = await self._ids(_expired(days, now))
        if ids:
            await self._keys.destroy(ids)
            await self._remove(ids, (), [_Note("retention", "expire", id) for id in ids])
        return tuple(ids)

    async def replay(self) -> int:
        """Delete again whatever was erased once: after a restore, or a crash in the middle.

        Returns: how many conversations and people went.
        """
        erased = await self._keys.erased()
        if not erased:
            return 0
        ids = [id for id in await self._ids(select(conversations.c.id)) if self._is_in(erased, id)]
        people = [row[0] for row in await self._people() if self._is_in(erased, _life(*row))]
        if ids or people:
            notes = [_Note("replay", "delete conversation", id) for id in ids]
            notes += [_Note("replay", "delete user", id) for id in people]
            await self._remove(ids, people, notes)
        return len(ids) + len(people)

    async def erased(self) -> Callable[[str], bool]:
        """Read the list of erasures, and give a function that tells whether an id is on it."""
        erased = await self._keys.erased()
        return lambda id: self._is_in(erased, id)

    def _is_in(self, erased: frozenset[str], id: str) -> bool:
        return self._keys.pseudonym(id) in erased

    async def _remove(
        self, ids: Sequence[str], people: Sequence[str], notes: Sequence["_Note"]
    ) -> None:
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
            for note in notes:
                await self._audit.note_within(connection, *note)

        await self._database.write(work)
        await self._database.forget_remnants()

    async def _ids(self, query: SelectBase) -> list[str]:
        async def ask(connection: Transaction) -> list[str]:
            return list((await connection.execute(query)).scalars())

        return await self._database.read(ask)

    async def _people(self, user: str | None = None) -> list[tuple[str, float]]:
        query = select(users.c.id, users.c.created)
        if user is not None:
            query = query.where(users.c.id == user)

        async def ask(connection: Transaction) -> list[tuple[str, float]]:
            return [(row.id, row.created) for row in await connection.execute(query)]

        return await self._database.read(ask)


def _life(user: str, created: float) -> str:
    """Name a person as they were here this time: who was deleted may come back later."""
    return f"{user} since {created!r}"


class _Note(NamedTuple):
    """What the audit log is to say, in the same transaction."""

    actor: str
    action: Action
    subject: str


def _expired(days: float | None, now: float) -> SelectBase:
    """Name what is too old; in two questions, since an index answers each of them."""
    own = users.c.retention_days * DAY_SECONDS
    by_its_user = (
        select(conversations.c.id)
        .join(users, users.c.id == conversations.c.user_id)
        .where(users.c.retention_days.is_not(None), conversations.c.updated < now - own)
    )
    if days is None:
        return by_its_user
    for_everybody = select(conversations.c.id).where(
        conversations.c.updated < now - days * DAY_SECONDS
    )
    return union(by_its_user, for_everybody)
