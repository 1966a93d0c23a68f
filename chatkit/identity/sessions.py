"""Sessions: one for each browser that somebody has signed in with."""

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from chatkit.store.opening import Store
from chatkit.store.schema import sessions
from chatkit.store.transaction import Transaction

# An unused session ends after IDLE, a used one after LONGEST; both as people know it from chats.
IDLE_SECONDS, LONGEST_SECONDS = 30 * 86_400.0, 180 * 86_400.0
# How old the note of the last use may be: it need not be written at every step.
SEEN_SECONDS = 600.0
LONGEST_AGENT = 300


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One browser that is signed in.

    Args:
        id: its name; it opens nothing.
        user: who is signed in.
        created: when they signed in, in seconds since 1970.
        seen: when it was last used, to ten minutes.
        agent: what the browser calls itself.
    """

    id: str
    user: str
    created: float
    seen: float
    agent: str


class Sessions:
    """Opens, finds and ends sessions. Only a digest of what opens one is stored.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def begin(self, user: str, agent: str) -> str:
        """Open a session, and give the secret that its browser keeps: 64 hexadecimal digits."""
        token, now = secrets.token_hex(32), time.time()
        id = _digest(token)
        seal = await self._store.keys.of_user(user)
        row = {
            "id": id,
            "user_id": user,
            "created": now,
            "seen": now,
            "sealed_agent": seal.close(agent[:LONGEST_AGENT], f"session:{id}"),
        }

        async def work(connection: Transaction) -> None:
            old = delete(sessions).where(sessions.c.user_id == user, _is_over(now))
            await connection.execute(old)
            there = select(sessions.c.id).where(sessions.c.id == id)
            if (await connection.execute(there)).first() is None:
                await connection.execute(insert(sessions), row)
                await self._store.audit.note_within(connection, user, "sign in", user)

        await self._store.database.write(work)
        return token

    async def user_of(self, token: str) -> str | None:
        """Tell who is signed in with a secret; None when nobody is, any more."""
        id, now = _digest(token), time.time()
        query = select(sessions).where(sessions.c.id == id, ~_is_over(now))

        async def ask(connection: Transaction) -> Any:
            return (await connection.execute(query)).first()

        row = await self._store.database.read(ask)
        if row is None:
            return None
        if now - row.seen > SEEN_SECONDS:
            await self._note_use(id, now)
        return str(row.user_id)

    async def of(self, user: str) -> tuple[SessionRecord, ...]:
        """List the browsers that somebody is signed in with, the last used first."""
        query = select(sessions).where(sessions.c.user_id == user, ~_is_over(time.time()))

        async def ask(connection: Transaction) -> list[Any]:
            return list(await connection.execute(query.order_by(sessions.c.seen.desc())))

        rows = await self._store.database.read(ask)
        if not rows:
            return ()
        seal = await self._store.keys.of_user(user)
        return tuple(
            SessionRecord(
                row.id,
                user,
                row.created,
                row.seen,
                seal.open(row.sealed_agent, f"session:{row.id}"),
            )
            for row in rows
        )

    async def end(self, token: str) -> None:
        """End the session of a secret; nothing when there is none."""
        await self._end(sessions.c.id == _digest(token))

    async def end_of(self, user: str, id: str | None = None) -> int:
        """End one session of somebody, or all of them, and tell how many there were."""
        which = sessions.c.user_id == user
        return await self._end(which if id is None else which & (sessions.c.id == id))

    async def _end(self, which: Any) -> int:
        async def work(connection: Transaction) -> int:
            users = select(sessions.c.user_id).where(which)
            ended = list((await connection.execute(users)).scalars())
            await connection.execute(delete(sessions).where(which))
            for user in set(ended):
                await self._store.audit.note_within(connection, user, "end session", user)
            return len(ended)

        return await self._store.database.write(work)

    async def _note_use(self, id: str, now: float) -> None:
        async def work(connection: Transaction) -> None:
            await connection.execute(update(sessions).where(sessions.c.id == id).values(seen=now))

        await self._store.database.write(work, "soon")


def _digest(token: str) -> str:
    return hashlib.sha256(b"chatkit session\x00" + token.encode()).hexdigest()


def _is_over(now: float) -> Any:
    return (sessions.c.seen < now - IDLE_SECONDS) | (sessions.c.created < now - LONGEST_SECONDS)
