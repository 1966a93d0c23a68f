"""Whole conversations made in one step: forks of others."""

import secrets
from collections.abc import Sequence

from chatkit.store.audit import Audit
from chatkit.store.conversations import Conversations, NewConversation
from chatkit.store.database import Database
from chatkit.store.nodes import NewNode, Nodes
from chatkit.store.records import NodeRecord
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
            await self._conversations.insert(connection, user, row)
            await self._nodes.insert(connection, conversation, seal, copied)
            await self._nodes.put_head(connection, user, conversation, copied[-1].id)
            await self._audit.note_within(connection, user, "fork", conversation)

        await self._database.write(work)
        return conversation


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
