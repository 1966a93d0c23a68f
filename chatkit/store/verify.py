"""Looks at everything that is stored: whether its key opens it, and whether it hangs together."""

import base64
import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Column, Select, and_, select, tuple_

from chatkit.errors import ChatkitError
from chatkit.messages import Role
from chatkit.sealing import Seal
from chatkit.store.audit import Verdict
from chatkit.store.keys import own_name
from chatkit.store.opening import Store
from chatkit.store.records import message_from_text, settings_from_text
from chatkit.store.schema import (
    accounts,
    answers,
    conversations,
    feedback,
    heads,
    nodes,
    sessions,
    users,
    votes,
)
from chatkit.store.transaction import Transaction

BATCH = 500
MOST_NAMED = 100
_OTHER = nodes.alias("other")


@dataclass(slots=True)
class Findings:
    """What a look at the whole database has found.

    Args:
        counts: how many rows of each table were looked at.
        faults: how many things are wrong.
        broken: the first hundred of them, in a sentence each.
        audit: what checking the audit log has found.
    """

    counts: dict[str, int] = field(default_factory=dict)
    faults: int = 0
    broken: list[str] = field(default_factory=list)
    audit: Verdict = field(default_factory=lambda: Verdict(0, None))

    def add(self, sentence: str) -> None:
        """Note something that is wrong."""
        self.faults += 1
        if len(self.broken) < MOST_NAMED:
            self.broken.append(sentence)


async def verify(store: Store) -> Findings:
    """Open everything that is sealed, follow every parent, and check the audit log.

    It may run while others write, and holds one batch in memory.

    Args:
        store: what to look at.
    """
    walk = _Walk(store)
    await walk.go()
    walk.found.audit = await store.audit.verify()
    if (number := walk.found.audit.broken_at) is not None:
        walk.found.add(f"audit entry {number}: it was changed, or one before it is gone")
    return walk.found


class _Walk:
    """One walk through all tables."""

    def __init__(self, store: Store) -> None:
        self.found = Findings()
        self._store = store
        self._keyless: dict[str, str] = {}

    async def go(self) -> None:
        await self._users()
        await self._conversations()
        await self._nodes()
        await self._answers()
        await self._feedback()
        await self._votes()
        await self._accounts()
        await self._heads()
        erased = await self._store.keys.erased()
        for id, owner in self._keyless.items():
            # What is deleted in this moment loses its key before its rows.
            if not erased & {self._store.keys.pseudonym(name) for name in (id, owner)}:
                self.found.add(f"conversation {id}: its key is not in the key store")

    async def _users(self) -> None:
        async for rows in self._batches(users, select(users)):
            for row in rows:
                if row.sealed_preferences is not None:
                    about = f"preferences:{row.id}"
                    seal = await self._own_seal(row.id)
                    self._open(seal, row.sealed_preferences, about, json.loads)

    async def _conversations(self) -> None:
        query = select(conversations, conversations.c.user_id.label("owner"))
        query = query.add_columns(conversations.c.id.label("conversation_id"))
        async for rows in self._batches(conversations, query):
            seals = await self._seals(rows)
            for row in rows:
                seal = seals.get(row.id)
                self._open(seal, row.sealed_title, f"title:{row.id}")
                about = f"settings:{row.id}"
                self._open(seal, row.sealed_settings, about, settings_from_text)

    async def _nodes(self) -> None:
        same = and_(
            _OTHER.c.id == nodes.c.parent, _OTHER.c.conversation_id == nodes.c.conversation_id
        )
        query = _owned(select(nodes, _OTHER.c.number.label("parent_number")), nodes)
        async for rows in self._batches(nodes, query.outerjoin(_OTHER, same)):
            seals = await self._seals(rows)
            for row in rows:
                self._check_parent(row)

                def read(text: str, role: str = row.role) -> Any:
                    return message_from_text(cast(Role, role), text)

                self._open(seals.get(row.conversation_id), row.sealed, f"node:{row.id}", read)

    def _check_parent(self, row: Any) -> None:
        if row.parent is not None and row.parent_number is None:
            self.found.add(f"message {row.id}: its parent {row.parent} is not there")
        # A parent always came before; where that holds for all, there is no circle.
        elif row.parent is not None and row.parent_number >= row.number:
            self.found.add(f"message {row.id}: its parent {row.parent} came after it")

    async def _answers(self) -> None:
        query = _owned(select(answers, nodes.c.conversation_id), answers)
        async for rows in self._batches(answers, query):
            seals = await self._seals(rows)
            for row in rows:
                seal = seals.get(row.conversation_id)
                self._open(seal, row.sealed_error, f"error:{row.node_id}")
                self._open(seal, row.sealed_sampling, f"sampling:{row.node_id}", json.loads)
                self._open(seal, row.sealed_ledger, f"ledger:{row.node_id}", _unpacked)

    async def _feedback(self) -> None:
        query = _owned(select(feedback, nodes.c.conversation_id), feedback)
        async for rows in self._batches(feedback, query):
            seals = await self._seals(rows)
            for row in rows:
                seal = seals.get(row.conversation_id)
                self._open(seal, row.sealed, f"feedback:{row.node_id}", json.loads)

    async def _votes(self) -> None:
        async for rows in self._batches(votes, select(votes)):
            for row in rows:
                seal = await self._own_seal(row.user_id)
                self._open(seal, row.sealed, f"vote:{row.id}", json.loads)

    async def _accounts(self) -> None:
        async for rows in self._batches(accounts, select(accounts)):
            for row in rows:
                seal = await self._own_seal(row.user_id)
                self._open(seal, row.sealed_name, f"account:{row.user_id}")
        async for rows in self._batches(sessions, select(sessions)):
            for row in rows:
                seal = await self._own_seal(row.user_id)
                self._open(seal, row.sealed_agent, f"session:{row.id}")

    async def _own_seal(self, user: str) -> Seal | None:
        own = own_name(user)
        return (await self._store.keys.alive(user, [own])).get(own)

    async def _heads(self) -> None:
        same = and_(
            _OTHER.c.id == heads.c.node_id, _OTHER.c.conversation_id == heads.c.conversation_id
        )
        query = select(heads, _OTHER.c.number).outerjoin(_OTHER, same)
        async for rows in self._batches(heads, query):
            for row in rows:
                if row.node_id is not None and row.number is None:
                    place = f"conversation {row.conversation_id}"
                    self.found.add(f"{place}: the message {row.node_id} of its reader is not there")

    async def _batches(self, table: Any, query: Select[Any]) -> AsyncIterator[list[Any]]:
        """Read a table batch by batch, in the order of its primary key."""
        key: tuple[Column[Any], ...] = tuple(table.primary_key)
        self.found.counts[table.name] = 0
        page = query.order_by(*key).limit(BATCH)

        async def ask(connection: Transaction) -> list[Any]:
            return list(await connection.execute(page))

        while rows := await self._store.database.read(ask):
            self.found.counts[table.name] += len(rows)
            yield rows
            last = tuple(rows[-1]._mapping[column] for column in key)
            page = query.where(tuple_(*key) > tuple_(*last)).order_by(*key).limit(BATCH)

    async def _seals(self, rows: Iterable[Any]) -> dict[str, Seal]:
        """Find the keys of conversations, and note those that have none."""
        owners = {row.conversation_id: row.owner for row in rows}
        seals: dict[str, Seal] = {}
        for owner in set(owners.values()):
            ids = [id for id, one in owners.items() if one == owner]
            seals |= await self._store.keys.alive(owner, ids)
        self._keyless |= {id: owner for id, owner in owners.items() if id not in seals}
        return seals

    def _open(
        self,
        seal: Seal | None,
        sealed: bytes | None,
        about: str,
        read: Callable[[str], Any] = str,
    ) -> None:
        if seal is None or sealed is None:
            return
        try:
            read(seal.open(sealed, about))
        except (ChatkitError, ValueError, TypeError, KeyError, IndexError, zlib.error):
            self.found.add(f"{about}: its key does not open it; it was changed, or is another's")


def _owned(query: Select[Any], table: Any) -> Select[Any]:
    """Add whose conversation a row belongs to."""
    if table is not nodes:
        query = query.join(nodes, nodes.c.id == table.c.node_id)
    query = query.join(conversations, conversations.c.id == nodes.c.conversation_id)
    return query.add_columns(conversations.c.user_id.label("owner"))


def _unpacked(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b85decode(text)))
