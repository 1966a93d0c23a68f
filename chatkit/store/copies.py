"""Whole conversations made in one step: forks of others, and imports."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import insert, select

from chatkit.exchange.portable import Portable
from chatkit.sealing import Seal
from chatkit.store.audit import Audit
from chatkit.store.conversations import Conversations, NewConversation
from chatkit.store.database import Database
from chatkit.store.new_node import NewNode
from chatkit.store.nodes import Nodes
from chatkit.store.opinions import feedback_row
from chatkit.store.portable import feedback_of, new_nodes, settings_of
from chatkit.store.records import NodeRecord
from chatkit.store.schema import conversations, feedback
from chatkit.store.transaction import Transaction


class Copies:
    """Makes conversations out of messages that are there already.

    Args:
        database: where they go.
        conversations: prepares them.
        nodes: inserts their messages.
        audit: where it is noted.
    """

    def __init__(
        self, database: Database, conversations: Conversations, nodes: Nodes, audit: Audit
    ) -> None:
        self._database = database
        self._conversations = conversations
        self._nodes = nodes
        self._audit = audit

    async def fork(self, user: str, new: NewConversation, path: Sequence[NodeRecord]) -> str:
        """Copy a path into a new conversation, with names and a key of its own.

        Answers that are still being written are copied as far as they have come.
        """
        row, seal = await self._conversations.prepare(user, new)
        conversation = str(row["id"])
        copied = _chain(path)

        async def work(connection: Transaction) -> None:
            if await self._nodes.there(connection, copied[-1].id):
                # Stored by an earlier try, after which the connection broke.
                return
            await self._conversations.insert(connection, user, row)
            await self._nodes.insert(connection, conversation, seal, copied)
            await self._nodes.put_head(connection, user, conversation, copied[-1].id)
            await self._audit.note_within(connection, user, "fork", conversation)

        await self._database.write(work)
        return conversation

    async def take_in(self, user: str, portables: Sequence[Portable]) -> tuple[str, ...]:
        """Store imported conversations as new ones, all or none of them.

        Returns: their new names, in order.
        """
        names = {portable.id: secrets.token_hex(16) for portable in portables}
        prepared = [await self._prepared(user, portable, names) for portable in portables]

        async def work(connection: Transaction) -> None:
            if prepared and await _there(connection, prepared[0].id):
                # Stored by an earlier try, after which the connection broke.
                return
            for one in prepared:
                await self._conversations.insert(connection, user, one.row)
                if one.nodes:
                    nodes = list(one.nodes.values())
                    await self._nodes.insert(connection, one.id, one.seal, nodes)
                    await self._nodes.put_head(connection, user, one.id, one.head)
                if one.opinions:
                    await connection.execute(insert(feedback), one.opinions)
                await self._audit.note_within(connection, user, "import", one.id)

        await self._database.write(work)
        return tuple(names.values())

    async def _prepared(
        self, user: str, portable: Portable, names: Mapping[str, str]
    ) -> "_Prepared":
        id, nodes = names[portable.id], new_nodes(portable)
        origin = None
        if portable.forked_from is not None:
            # A fork knows its origin when both came in together.
            from_id = names.get(portable.forked_from, portable.forked_from[:32])
            origin = (from_id, (portable.forked_at or "")[:32])
        times = (portable.created.timestamp(), portable.updated.timestamp())
        new = NewConversation(settings_of(portable), portable.title, origin, id, times)
        row, seal = await self._conversations.prepare(user, new)
        head = nodes[portable.head].id if portable.head is not None else None
        opinions = [
            feedback_row(user, nodes[node.id].id, opinion, seal)
            for node in portable.nodes
            if (opinion := feedback_of(node)) is not None
        ]
        return _Prepared(id, row, seal, nodes, head, opinions)


class _Prepared(NamedTuple):
    """An imported conversation, sealed and ready to be inserted."""

    id: str
    row: dict[str, Any]
    seal: Seal
    nodes: dict[str, NewNode]
    head: str | None
    opinions: list[dict[str, Any]]


async def _there(connection: Transaction, conversation: str) -> bool:
    query = select(conversations.c.id).where(conversations.c.id == conversation)
    return (await connection.execute(query)).first() is not None


def _chain(path: Sequence[NodeRecord]) -> list[NewNode]:
    copied: list[NewNode] = []
    for node in path:
        facts = node.facts
        copied.append(
            NewNode(
                message=node.message,
                parent=copied[-1].id if copied else None,
                facts=facts if facts is None or not facts.open else None,
                created=node.created,
                pinned=node.pinned,
                id=secrets.token_hex(8),
            )
        )
    return copied
