"""The keys of what people wrote: one per conversation, under one per user, under the master key.

They live in a store of their own, outside of the database and of its backups: whoever has only
those can read nothing, and a destroyed key takes what it sealed with it, wherever copies lie.
"""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Column, delete, select

from chatkit.errors import KeyUnavailable, NotFound
from chatkit.sealing import KeySeal, PlainSeal, Seal, new_key
from chatkit.store.database import Database
from chatkit.store.master_key import MasterKey
from chatkit.store.schema import conversation_keys, erasures, key_facts, key_metadata, user_keys
from chatkit.store.transaction import Operation, Transaction
from chatkit.store.wrapping import PSEUDONYM_KEY, Wrapping, rewrap, wrapping_of_store

REMEMBERED_KEYS = 20_000
# The fact that says whether what is here is sealed: nobody may read half of it by a switch.
_MODE = "encryption"
Result = TypeVar("Result")


class Keys:
    """Makes, finds and destroys keys, and remembers who was erased.

    Args:
        database: the key store.
        master: the key above all others.
        encrypted: False seals nothing and only keeps the list of erasures.
    """

    def __init__(self, database: Database, master: MasterKey, encrypted: bool = True) -> None:
        self._database = database
        self._master = master
        # Keys of users change when keys are rotated, so only those under them are remembered.
        self._remembered: OrderedDict[str, tuple[str, KeySeal]] = OrderedDict()
        self._pseudonym_key = b""
        self._wrapping = Wrapping(KeySeal(master.key), b"")
        self.encrypted = encrypted

    async def open(self) -> None:
        """Make the key store ready.

        Raises:
            KeyUnavailable: the master key is not the one of this key store, or the key store was
                begun with encryption switched the other way.
        """
        sealed = KeySeal(self._master.key).close_bytes(new_key(), PSEUDONYM_KEY)

        mode = b"on" if self.encrypted else b"off"
        facts = [{"name": PSEUDONYM_KEY, "sealed": sealed}, {"name": _MODE, "sealed": mode}]

        async def work(connection: Transaction) -> tuple[bytes, bytes]:
            await connection.run_sync(key_metadata.create_all)
            await connection.execute(self._database.insert_new(key_facts), facts)
            query = select(key_facts.c.sealed).where(key_facts.c.name == _MODE)
            there = bytes((await connection.execute(query)).scalar_one())
            return await wrapping_of_store(connection), there

        generation, there = await self._database.write(work)
        self._adopt(generation)
        if there != mode:
            begun = there.decode()
            raise KeyUnavailable(
                f"What is here was begun with encryption {begun}; set CHATKIT_ENCRYPTION to "
                f"{begun}, or export it all into a database with a key store of its own."
            )

    async def close(self) -> None:
        """Close the key store."""
        self._remembered.clear()
        await self._database.close()

    @property
    def key_from_environment(self) -> bool:
        """Whether the master key comes from the environment, which no rotation can change."""
        return self._master.from_environment

    def pseudonym(self, id: str) -> str:
        """Give the name under which logs and lists know a person or a conversation."""
        return hmac.new(self._pseudonym_key, id.encode(), hashlib.sha256).hexdigest()[:32]

    async def of_user(self, user: str) -> Seal:
        """Give the key of what a user wrote outside of conversations, made at the first use."""
        return await self.make(user, own_name(user))

    async def make(self, user: str, conversation: str) -> Seal:
        """Make the key of a new conversation; one that is there already stays."""
        return (await self.make_many(user, [conversation]))[conversation]

    async def make_many(self, user: str, conversations: list[str]) -> dict[str, Seal]:
        """Make the keys of several new conversations at once."""
        if self.encrypted and any(id not in self._remembered for id in conversations):
            await self._write(lambda now, known: self._insert(now, known, user, conversations))
        return await self.of_conversations(user, conversations)

    async def of_conversation(self, user: str, conversation: str) -> Seal:
        """Give the key of a conversation.

        Raises:
            NotFound: it was destroyed, or never was.
        """
        return (await self.of_conversations(user, [conversation]))[conversation]

    async def of_conversations(self, user: str, ids: Iterable[str]) -> dict[str, Seal]:
        """Give the keys of several conversations of one user.

        Raises:
            NotFound: one of them was destroyed, or never was.
        """
        wanted = list(ids)
        found = await self.alive(user, wanted)
        for id in wanted:
            if id not in found:
                raise no_conversation(id)
        return found

    async def alive(self, user: str, ids: Iterable[str]) -> dict[str, Seal]:
        """Give the keys of those conversations of one user that still have one."""
        wanted = list(ids)
        if not self.encrypted:
            return dict.fromkeys(wanted, PlainSeal())
        absent = [id for id in wanted if id not in self._remembered]
        if absent:
            await self._load(user, absent)
        found: dict[str, Seal] = {}
        for id in wanted:
            owner, seal = self._remembered.get(id, (None, None))
            if seal is not None and owner == user:
                self._remembered.move_to_end(id)
                found[id] = seal
        while len(self._remembered) > REMEMBERED_KEYS:
            self._remembered.popitem(last=False)
        return found

    async def destroy(self, conversations: Iterable[str], user: str | None = None) -> None:
        """Destroy keys for ever, and enter pseudonyms into the list of erasures.

        Args:
            conversations: whose keys go.
            user: the person who goes with all of them; None when only conversations go.
        """
        ids = list(conversations)
        now = time.time()
        rows = [self._erasure(id, "conversation", now) for id in ids]
        rows += [self._erasure(user, "user", now)] if user is not None else []

        async def work(connection: Transaction) -> None:
            for row in rows:
                await connection.execute(self._database.insert_new(erasures), row)
            for start in range(0, len(ids), 500):
                some = conversation_keys.c.conversation_id.in_(ids[start : start + 500])
                await connection.execute(delete(conversation_keys).where(some))
            if user is not None:
                of_user = conversation_keys.c.user_id == user
                await connection.execute(delete(conversation_keys).where(of_user))
                await connection.execute(delete(user_keys).where(user_keys.c.user_id == user))

        await self._database.write(work)
        for id in (*ids, own_name(user or "")):
            self._remembered.pop(id, None)
        await self._database.forget_remnants()

    async def known(self) -> frozenset[str]:
        """Name the conversations whose keys are here."""
        return await self._all(conversation_keys.c.conversation_id)

    async def erased(self, kind: str | None = None) -> frozenset[str]:
        """Give the pseudonyms of all that was erased, or of one kind of it."""
        query = select(erasures.c.pseudonym)
        if kind is not None:
            query = query.where(erasures.c.kind == kind)

        async def ask(connection: Transaction) -> frozenset[str]:
            return frozenset((await connection.execute(query)).scalars())

        return await self._database.read(ask)

    async def note_erased(self, ids: Iterable[str], kind: str) -> None:
        """Enter into the list of erasures what has no key of its own."""
        rows = [self._erasure(id, kind, time.time()) for id in ids]

        async def work(connection: Transaction) -> None:
            for row in rows:
                await connection.execute(self._database.insert_new(erasures), row)

        await self._database.write(work)

    async def rotate(self, new_master: bytes) -> int:
        """Give every user a new key, under a new master key.

        Texts stay as they are: the keys that seal them are wrapped anew. Other processes notice
        it when they next need a key.

        Args:
            new_master: 32 random bytes.

        Returns: how many users' keys were changed.

        Raises:
            KeyUnavailable: somebody else rotates the keys at the same time.
        """
        with self._master.alone():
            # A new key may only be put where no other one waits to be the right one.
            await self._catch_up()
            self._master.propose(new_master)
            after = Wrapping.made(KeySeal(new_master), self._pseudonym_key)
            before = self._wrapping
            changed = await self._database.write(lambda now: rewrap(now, before, after))
            self._wrapping = after
            self._master.settle(new_master)
        await self._database.forget_remnants()
        return changed

    async def _catch_up(self) -> None:
        """Take up the keys as they are after a rotation, here or in another process."""
        self._adopt(await self._database.read(wrapping_of_store))

    def _adopt(self, generation: bytes) -> None:
        """Find the master key that opens the key store.

        Raises:
            KeyUnavailable: none of those that there are.
        """
        for key in self._master.candidates():
            with suppress(KeyUnavailable):
                self._pseudonym_key = KeySeal(key).open_bytes(generation, PSEUDONYM_KEY)
                self._wrapping = Wrapping(KeySeal(key), generation)
                self._master.settle(key)
                return
        raise KeyUnavailable(
            f"The master key in {self._master.place} is not the one of this key store; restore "
            "the right one, or set the new one after a rotation: without it nothing can be read."
        )

    async def _read(self, work: Operation[Result]) -> Result:
        """Read the key store as it is under the wrapping that this process knows."""

        async def dated(connection: Transaction) -> tuple[bytes, Result]:
            return await wrapping_of_store(connection), await work(connection)

        while True:
            generation, result = await self._database.read(dated)
            if generation == self._wrapping.generation:
                return result
            await self._catch_up()

    async def _write(self, work: Callable[[Transaction, Wrapping], Awaitable[None]]) -> None:
        """Change the key store, never with keys from before a rotation."""

        async def guarded(connection: Transaction, wrapping: Wrapping) -> bool:
            if await wrapping_of_store(connection, locked=True) != wrapping.generation:
                return False
            await work(connection, wrapping)
            return True

        while not await self._database.write(partial(guarded, wrapping=self._wrapping)):
            await self._catch_up()

    async def _insert(
        self, connection: Transaction, wrapping: Wrapping, user: str, ids: list[str]
    ) -> None:
        query = select(user_keys.c.wrapped).where(user_keys.c.user_id == user)
        wrapped = (await connection.execute(query)).scalar()
        if wrapped is None:
            new = {"user_id": user, "wrapped": wrapping.wrap_user(new_key(), user)}
            await connection.execute(self._database.insert_new(user_keys), new)
            wrapped = (await connection.execute(query)).scalar_one()
        above = wrapping.user_seal(wrapped, user)
        rows = [
            {"conversation_id": id, "user_id": user, "wrapped": above.close_bytes(new_key(), id)}
            for id in ids
        ]
        await connection.execute(self._database.insert_new(conversation_keys), rows)

    async def _load(self, user: str, ids: list[str]) -> None:
        async def ask(connection: Transaction) -> tuple[bytes | None, list[Any]]:
            mine = select(user_keys.c.wrapped).where(user_keys.c.user_id == user)
            found: list[Any] = []
            for start in range(0, len(ids), 500):
                query = select(conversation_keys).where(
                    conversation_keys.c.conversation_id.in_(ids[start : start + 500]),
                    conversation_keys.c.user_id == user,
                )
                found += await connection.execute(query)
            return (await connection.execute(mine)).scalar(), found

        wrapped, rows = await self._read(ask)
        if wrapped is not None and rows:
            above = self._wrapping.user_seal(wrapped, user)
            for row in rows:
                key = above.open_bytes(row.wrapped, row.conversation_id)
                self._remembered[row.conversation_id] = (user, KeySeal(key))

    async def _all(self, column: Column[Any]) -> frozenset[str]:
        async def ask(connection: Transaction) -> frozenset[str]:
            return frozenset((await connection.execute(select(column))).scalars())

        return await self._database.read(ask)

    def _erasure(self, id: str, kind: str, at: float) -> dict[str, object]:
        return {"pseudonym": self.pseudonym(id), "kind": kind, "at": at}


def no_conversation(id: str) -> NotFound:
    """Make the error for a name that does not exist or is someone else's: the same for both."""
    return NotFound(f"There is no conversation {id!r} of yours; see the list of conversations.")


def own_name(user: str) -> str:
    """Name the key of what a user wrote outside of conversations."""
    return hashlib.sha256(f"user:{user}".encode()).hexdigest()[:32]
