"""The keys of what people wrote: one per conversation, under one per user, under the master key.

They live in a store of their own, outside of the database and of its backups: whoever has only
those can read nothing, and a destroyed key takes what it sealed with it, wherever copies lie.
"""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Iterable

from sqlalchemy import Insert, Table, delete, select, update

from chatkit.errors import KeyUnavailable, NotFound
from chatkit.sealing import KeySeal, PlainSeal, Seal, new_key
from chatkit.store.database import Database
from chatkit.store.master_key import MasterKey
from chatkit.store.schema import conversation_keys, erasures, key_facts, key_metadata, user_keys
from chatkit.store.transaction import Transaction

REMEMBERED_KEYS = 20_000
_PSEUDONYM_KEY = "pseudonyms"


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
        self._wrapping = KeySeal(master.key)
        self._remembered: OrderedDict[str, KeySeal] = OrderedDict()
        self._pseudonym_key = b""
        self.encrypted = encrypted

    async def open(self) -> None:
        """Make the key store ready.

        Raises:
            KeyUnavailable: the master key is not the one of this key store.
        """

        async def work(connection: Transaction) -> bytes:
            await connection.run_sync(key_metadata.create_all)
            await connection.execute(
                self._insert(key_facts),
                {"name": _PSEUDONYM_KEY, "sealed": self._wrap(new_key(), _PSEUDONYM_KEY)},
            )
            query = select(key_facts.c.sealed).where(key_facts.c.name == _PSEUDONYM_KEY)
            return bytes((await connection.execute(query)).scalar_one())

        self._pseudonym_key = self._unwrap(await self._database.write(work), _PSEUDONYM_KEY)

    async def close(self) -> None:
        """Close the key store."""
        self._remembered.clear()
        await self._database.close()

    def pseudonym(self, id: str) -> str:
        """Give the name under which logs and lists know a person or a conversation."""
        return hmac.new(self._pseudonym_key, id.encode(), hashlib.sha256).hexdigest()[:32]

    async def of_user(self, user: str) -> Seal:
        """Give a user's own key, made at the first use."""
        return await self._user_key(user) if self.encrypted else PlainSeal()

    async def make(self, user: str, conversation: str) -> Seal:
        """Make the key of a new conversation."""
        if not self.encrypted:
            return PlainSeal()
        await self._make_many(user, [conversation])
        return await self.of_conversation(user, conversation)

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
        if not self.encrypted:
            return dict.fromkeys(wanted, PlainSeal())
        absent = [id for id in wanted if id not in self._remembered]
        if absent:
            await self._load(user, absent)
        found: dict[str, Seal] = {}
        for id in wanted:
            if id not in self._remembered:
                raise no_conversation(id)
            self._remembered.move_to_end(id)
            found[id] = self._remembered[id]
        self._forget_oldest()
        return found

    async def destroy(self, conversations: Iterable[str], user: str | None = None) -> None:
        """Destroy keys for ever, and enter pseudonyms into the list of erasures.

        Args:
            conversations: whose keys go.
            user: the person who goes with all of them; None when only conversations go.
        """
        ids = list(conversations)
        rows = [self._erasure(id, "conversation") for id in ids]
        rows += [self._erasure(user, "user")] if user is not None else []

        async def work(connection: Transaction) -> None:
            for row in rows:
                await connection.execute(self._insert(erasures), row)
            for start in range(0, len(ids), 500):
                some = conversation_keys.c.conversation_id.in_(ids[start : start + 500])
                await connection.execute(delete(conversation_keys).where(some))
            if user is not None:
                of_user = conversation_keys.c.user_id == user
                await connection.execute(delete(conversation_keys).where(of_user))
                await connection.execute(delete(user_keys).where(user_keys.c.user_id == user))

        await self._database.write(work)
        for id in (*ids, _user_name(user or "")):
            self._remembered.pop(id, None)
        await self._database.forget_remnants()

    async def erased(self) -> frozenset[str]:
        """Give the pseudonyms of all that was erased."""

        async def ask(connection: Transaction) -> frozenset[str]:
            return frozenset((await connection.execute(select(erasures.c.pseudonym))).scalars())

        return await self._database.read(ask)

    async def rotate(self, new_master: MasterKey | None = None) -> int:
        """Give every user a new key, under a new master key where one is given.

        Texts stay as they are: the keys that seal them are wrapped anew.

        Returns: how many users' keys were changed.
        """
        wrapping = KeySeal(new_master.key) if new_master else self._wrapping

        async def work(connection: Transaction) -> int:
            users = (await connection.execute(select(user_keys))).all()
            for row in users:
                old = KeySeal(self._unwrap(row.wrapped, _user_name(row.user_id)))
                await self._rewrap_user(connection, row.user_id, old, wrapping)
            sealed = wrapping.close_bytes(self._pseudonym_key, _PSEUDONYM_KEY)
            change = update(key_facts).where(key_facts.c.name == _PSEUDONYM_KEY)
            await connection.execute(change.values(sealed=sealed))
            return len(users)

        changed = await self._database.write(work)
        self._wrapping = wrapping
        self._remembered.clear()
        await self._database.forget_remnants()
        return changed

    async def _rewrap_user(
        self, connection: Transaction, user: str, old: KeySeal, wrapping: KeySeal
    ) -> None:
        key = new_key()
        fresh, name = KeySeal(key), _user_name(user)
        of_user = select(conversation_keys).where(conversation_keys.c.user_id == user)
        for row in (await connection.execute(of_user)).all():
            plain = old.open_bytes(row.wrapped, row.conversation_id)
            change = update(conversation_keys).where(
                conversation_keys.c.conversation_id == row.conversation_id
            )
            wrapped = fresh.close_bytes(plain, row.conversation_id)
            await connection.execute(change.values(wrapped=wrapped))
        await connection.execute(
            update(user_keys)
            .where(user_keys.c.user_id == user)
            .values(wrapped=wrapping.close_bytes(key, name))
        )

    async def _user_key(self, user: str) -> KeySeal:
        name = _user_name(user)
        if name in self._remembered:
            self._remembered.move_to_end(name)
            return self._remembered[name]

        async def work(connection: Transaction) -> bytes:
            await connection.execute(
                self._insert(user_keys), {"user_id": user, "wrapped": self._wrap(new_key(), name)}
            )
            query = select(user_keys.c.wrapped).where(user_keys.c.user_id == user)
            return bytes((await connection.execute(query)).scalar_one())

        async def ask(connection: Transaction) -> bytes | None:
            query = select(user_keys.c.wrapped).where(user_keys.c.user_id == user)
            found = (await connection.execute(query)).scalar()
            return bytes(found) if found else None

        found = await self._database.read(ask)
        wrapped = found if found else await self._database.write(work)
        self._remembered[name] = KeySeal(self._unwrap(wrapped, name))
        return self._remembered[name]

    async def make_many(self, user: str, conversations: list[str]) -> dict[str, Seal]:
        """Make the keys of several new conversations at once."""
        if self.encrypted:
            await self._make_many(user, conversations)
        return await self.of_conversations(user, conversations)

    async def _make_many(self, user: str, conversations: list[str]) -> None:
        above = await self._user_key(user)
        rows = [
            {
                "conversation_id": id,
                "user_id": user,
                "wrapped": above.close_bytes(new_key(), id),
            }
            for id in conversations
        ]

        async def work(connection: Transaction) -> None:
            await connection.execute(self._insert(conversation_keys), rows)

        await self._database.write(work)

    async def _load(self, user: str, ids: list[str]) -> None:
        async def ask(connection: Transaction) -> list[tuple[str, bytes]]:
            found: list[tuple[str, bytes]] = []
            for start in range(0, len(ids), 500):
                query = select(conversation_keys).where(
                    conversation_keys.c.conversation_id.in_(ids[start : start + 500]),
                    conversation_keys.c.user_id == user,
                )
                rows = await connection.execute(query)
                found += [(row.conversation_id, bytes(row.wrapped)) for row in rows]
            return found

        rows = await self._database.read(ask)
        above = await self._user_key(user) if rows else None
        for id, wrapped in rows:
            assert above is not None
            self._remembered[id] = KeySeal(above.open_bytes(wrapped, id))

    def _forget_oldest(self) -> None:
        while len(self._remembered) > REMEMBERED_KEYS:
            self._remembered.popitem(last=False)

    def _erasure(self, id: str, kind: str) -> dict[str, object]:
        return {"pseudonym": self.pseudonym(id), "kind": kind, "at": time.time()}

    def _insert(self, table: Table) -> Insert:
        return self._database.insert_new(table)

    def _wrap(self, key: bytes, name: str) -> bytes:
        return self._wrapping.close_bytes(key, name)

    def _unwrap(self, wrapped: bytes, name: str) -> bytes:
        try:
            return self._wrapping.open_bytes(wrapped, name)
        except KeyUnavailable:
            raise KeyUnavailable(
                f"The master key in {self._place} is not the one that this key store was made "
                "with; restore the right one, without it nothing can be read."
            ) from None

    @property
    def _place(self) -> str:
        master = self._master
        return "CHATKIT_MASTER_KEY" if master.from_environment else str(master.file)


def no_conversation(id: str) -> NotFound:
    """Make the error for a name that does not exist or is someone else's: the same for both."""
    return NotFound(f"There is no conversation {id!r} of yours; see the list of conversations.")


def _user_name(user: str) -> str:
    return f"user:{user}"
