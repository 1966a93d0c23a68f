"""Conversations without their messages: begins, finds, lists and renames them."""

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

from sqlalchemy import Float, Select, String, Update, bindparam, case, select, tuple_, update

from chatkit.sealing import Seal
from chatkit.store.database import Database
from chatkit.store.keys import Keys, no_conversation
from chatkit.store.records import (
    ConversationRecord,
    ConversationSettings,
    settings_from_text,
    settings_to_text,
)
from chatkit.store.schema import conversations, heads, users
from chatkit.store.transaction import Transaction

TITLE_CHARACTERS = 200
_OWNER = select(conversations.c.user_id).where(conversations.c.id == bindparam("conversation"))


class Cursor(NamedTuple):
    """A place in the list of conversations, newest first."""

    updated: float
    id: str


@dataclass(frozen=True, slots=True)
class NewConversation:
    """A conversation to begin.

    Args:
        settings: how it is answered.
        title: what lists show, empty until there is one.
        forked_from: the conversation that it is copied from, and at which message.
        id: its name, a new one when empty.
        times: when it was created and updated, in seconds since 1970; now when None.
    """

    settings: ConversationSettings
    title: str = ""
    forked_from: tuple[str, str] | None = None
    id: str = ""
    times: tuple[float, float] | None = None


class Conversations:
    """The conversations of all users; each method names the user, and finds only theirs.

    Args:
        database: where they are.
        keys: what opens them.
    """

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    async def begin(self, user: str, new: NewConversation) -> str:
        """Begin a conversation and give its name."""
        row, _ = await self.prepare(user, new)

        async def work(connection: Transaction) -> None:
            await self.insert(connection, user, row)

        await self._database.write(work)
        return str(row["id"])

    async def prepare(self, user: str, new: NewConversation) -> tuple[dict[str, Any], Seal]:
        """Make a conversation's key and its row, ready to be inserted with its messages."""
        id, now = new.id or secrets.token_hex(16), time.time()
        created, updated = new.times or (now, now)
        seal = await self._keys.make(user, id)
        from_id, from_node = new.forked_from or (None, None)
        row = {
            "id": id,
            "user_id": user,
            "sealed_title": seal.close(new.title[:TITLE_CHARACTERS], f"title:{id}"),
            "titled_by": "person" if new.title else "nobody",
            "sealed_settings": seal.close(settings_to_text(new.settings), f"settings:{id}"),
            "created": created,
            "updated": updated,
            "forked_from": from_id,
            "forked_at": from_node,
        }
        return row, seal

    async def insert(self, connection: Transaction, user: str, row: dict[str, Any]) -> None:
        """Insert a prepared row, and the user where this is the first one."""
        insert = self._database.insert_new
        await connection.execute(insert(users), {"id": user, "created": time.time()})
        await connection.execute(insert(conversations), row)

    async def find(self, user: str, id: str) -> ConversationRecord:
        """Find a conversation.

        Raises:
            NotFound: there is none of this name, or it is someone else's.
        """

        async def ask(connection: Transaction) -> Any | None:
            asked = {"user": user, "conversation": id}
            return (await connection.execute(_one(), asked)).first()

        row = await self._database.read(ask)
        if row is None:
            raise no_conversation(id)
        return self._opened(row, await self._keys.of_conversation(user, id))

    async def page(
        self, user: str, limit: int, before: Cursor | None = None
    ) -> tuple[ConversationRecord, ...]:
        """List a user's conversations, newest first.

        Args:
            user: whose.
            limit: how many at most.
            before: go on after this place of an earlier page.
        """

        async def ask(connection: Transaction) -> list[Any]:
            query = _with_head()
            if before is not None:
                place = tuple_(conversations.c.updated, conversations.c.id)
                query = query.where(place < tuple_(before.updated, before.id))
            order = (conversations.c.updated.desc(), conversations.c.id.desc())
            page = query.order_by(*order).limit(limit)
            return list(await connection.execute(page, {"user": user}))

        rows = await self._database.read(ask)
        # What is deleted in this moment loses its key before its row.
        seals = await self._keys.alive(user, [row.id for row in rows])
        return tuple(self._opened(row, seals[row.id]) for row in rows if row.id in seals)

    async def some(self, user: str, ids: Iterable[str]) -> tuple[ConversationRecord, ...]:
        """Give those of some conversations that are there and are the user's, in no order."""
        wanted = list(ids)

        async def ask(connection: Transaction) -> list[Any]:
            found: list[Any] = []
            for start in range(0, len(wanted), 500):
                query = _with_head().where(conversations.c.id.in_(wanted[start : start + 500]))
                found += await connection.execute(query, {"user": user})
            return found

        rows = await self._database.read(ask) if wanted else []
        seals = await self._keys.alive(user, [row.id for row in rows])
        return tuple(self._opened(row, seals[row.id]) for row in rows if row.id in seals)

    async def ids(self, user: str) -> tuple[str, ...]:
        """Name all conversations of a user."""

        async def ask(connection: Transaction) -> tuple[str, ...]:
            query = select(conversations.c.id).where(conversations.c.user_id == user)
            return tuple((await connection.execute(query)).scalars())

        return await self._database.read(ask)

    async def users(self) -> tuple[str, ...]:
        """Name everybody who has conversations."""

        async def ask(connection: Transaction) -> tuple[str, ...]:
            query = select(conversations.c.user_id).distinct().order_by(conversations.c.user_id)
            return tuple((await connection.execute(query)).scalars())

        return await self._database.read(ask)

    async def rename(
        self, user: str, id: str, title: str, by: Literal["model", "person"] = "person"
    ) -> None:
        """Give a conversation a title; one that a person gave is not overwritten by a model's.

        Raises:
            NotFound: there is none of this name, or it is someone else's.
        """
        seal = await self._keys.of_conversation(user, id)
        sealed = seal.close(title[:TITLE_CHARACTERS], f"title:{id}")

        async def work(connection: Transaction) -> None:
            await owned(connection, user, id)
            change = update(conversations).where(conversations.c.id == id)
            if by == "model":
                change = change.where(conversations.c.titled_by != "person")
            await connection.execute(change.values(sealed_title=sealed, titled_by=by))

        await self._database.write(work)

    async def configure(self, user: str, id: str, settings: ConversationSettings) -> None:
        """Change how a conversation is answered from now on.

        Raises:
            NotFound: there is none of this name, or it is someone else's.
        """
        seal = await self._keys.of_conversation(user, id)
        sealed = seal.close(settings_to_text(settings), f"settings:{id}")

        async def work(connection: Transaction) -> None:
            await owned(connection, user, id)
            change = update(conversations).where(conversations.c.id == id)
            await connection.execute(change.values(sealed_settings=sealed))

        await self._database.write(work)

    def _opened(self, row: Any, seal: Seal) -> ConversationRecord:
        return ConversationRecord(
            id=row.id,
            user=row.user_id,
            title=seal.open(row.sealed_title, f"title:{row.id}"),
            titled_by=row.titled_by,
            settings=settings_from_text(seal.open(row.sealed_settings, f"settings:{row.id}")),
            created=row.created,
            updated=row.updated,
            forked_from=(row.forked_from, row.forked_at) if row.forked_from else None,
            head=row.node_id,
        )


async def owned(connection: Transaction, user: str, id: str) -> None:
    """Refuse a conversation that is not this user's.

    Raises:
        NotFound: there is none of this name, or it is someone else's.
    """
    if (await connection.execute(_OWNER, {"conversation": id})).scalar() != user:
        raise no_conversation(id)


async def touch(connection: Transaction, id: str, now: float) -> None:
    """Note that something was said just now; it never goes back, so that nothing expires early."""
    await connection.execute(_touch(), {"conversation": id, "now": now})


@cache
def _touch() -> Update:
    now = bindparam("now", type_=Float)
    later = case((conversations.c.updated > now, conversations.c.updated), else_=now)
    mine = conversations.c.id == bindparam("conversation")
    return update(conversations).where(mine).values(updated=later)


@cache
def _one() -> Select[Any]:
    return _with_head().where(conversations.c.id == bindparam("conversation"))


def _with_head() -> Select[Any]:
    """The conversations of `:user`, each with where that person stands in it."""
    user = bindparam("user", type_=String)
    joined = conversations.outerjoin(
        heads, (heads.c.conversation_id == conversations.c.id) & (heads.c.user_id == user)
    )
    query = select(conversations, heads.c.node_id).select_from(joined)
    return query.where(conversations.c.user_id == user)
