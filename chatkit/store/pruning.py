"""Deletes a branch: a message with everything that came after it."""

from collections.abc import Sequence

from sqlalchemy import Select, bindparam, delete, select, update

from chatkit.store.audit import Audit
from chatkit.store.conversations import owned
from chatkit.store.database import Database
from chatkit.store.keys import Keys
from chatkit.store.node_queries import leaf_query
from chatkit.store.nodes import no_message
from chatkit.store.schema import heads, nodes
from chatkit.store.transaction import Transaction

_BATCH = 500


class Pruning:
    """Deletes branches, also from what a restore has brought back.

    The key of the conversation stays, since the rest of it is read with that. So a backup from
    before can still be read; a restored one loses the branch again.

    Args:
        database: where the rows are.
        keys: remembers what was deleted.
        audit: where it is noted.
    """

    def __init__(self, database: Database, keys: Keys, audit: Audit) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit

    async def below(self, user: str, conversation: str, node: str) -> tuple[str, ...]:
        """Name a message and all that came after it, on every branch.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """

        async def ask(connection: Transaction) -> tuple[str, ...]:
            await owned(connection, user, conversation)
            return await _below(connection, conversation, node)

        found = await self._database.read(ask)
        if not found:
            raise no_message(node)
        return found

    async def branch(self, user: str, conversation: str, node: str) -> None:
        """Delete a message and all that came after it; readers there go to what is beside it.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        await self.below(user, conversation, node)
        await self._keys.note_erased([node], "message")

        async def work(connection: Transaction) -> None:
            await owned(connection, user, conversation)
            if await self._remove(connection, conversation, node):
                await self._audit.note_within(connection, user, "delete branch", conversation)

        await self._database.write(work)
        await self._database.forget_remnants()

    async def replay(self) -> int:
        """Delete again every branch that was deleted once: after a restore.

        Returns: how many there were.
        """
        erased = await self._keys.erased("message")
        if not erased:
            return 0

        async def ask(connection: Transaction) -> list[tuple[str, str]]:
            rows = await connection.execute(select(nodes.c.conversation_id, nodes.c.id))
            return [tuple(row) for row in rows if self._keys.pseudonym(row.id) in erased]

        found = await self._database.read(ask)

        async def work(connection: Transaction) -> None:
            for conversation, node in found:
                if await self._remove(connection, conversation, node):
                    await self._audit.note_within(
                        connection, "replay", "delete branch", conversation
                    )

        if found:
            await self._database.write(work)
            await self._database.forget_remnants()
        return len(found)

    async def _remove(self, connection: Transaction, conversation: str, node: str) -> bool:
        ids = await _below(connection, conversation, node)
        if not ids:
            return False
        place = select(nodes.c.parent, nodes.c.role).where(nodes.c.id == node)
        parent, role = (await connection.execute(place)).one()
        for start in range(0, len(ids), _BATCH):
            some = nodes.c.id.in_(ids[start : start + _BATCH])
            await connection.execute(delete(nodes).where(some))
        head = await _beside(connection, conversation, parent, role)
        await _move_heads(connection, conversation, ids, head)
        return True


async def _below(connection: Transaction, conversation: str, node: str) -> tuple[str, ...]:
    asked = {"conversation": conversation, "id": node}
    return tuple((await connection.execute(_below_query(), asked)).scalars())


def _below_query() -> Select[tuple[str]]:
    here = nodes.c.conversation_id == bindparam("conversation")
    walk = select(nodes.c.id).where(nodes.c.id == bindparam("id"), here).cte("walk", recursive=True)
    child = nodes.alias("child")
    step = select(child.c.id).select_from(walk.join(child, child.c.parent == walk.c.id))
    walk = walk.union_all(step.where(child.c.conversation_id == bindparam("conversation")))
    return select(walk.c.id)


async def _beside(
    connection: Transaction, conversation: str, parent: str | None, role: str
) -> str | None:
    """Name the end of the newest branch beside one that is gone, or else what came before it."""
    sibling = select(nodes.c.id).where(
        nodes.c.conversation_id == conversation,
        nodes.c.parent.is_not_distinct_from(parent),
        nodes.c.role == role,
        nodes.c.kind == "message",
    )
    newest = (await connection.execute(sibling.order_by(nodes.c.number.desc()).limit(1))).scalar()
    if newest is None:
        return parent
    asked = {"conversation": conversation, "id": newest}
    return str((await connection.execute(leaf_query(), asked)).scalar_one())


async def _move_heads(
    connection: Transaction, conversation: str, ids: Sequence[str], head: str | None
) -> None:
    for start in range(0, len(ids), _BATCH):
        there = heads.c.node_id.in_(ids[start : start + _BATCH])
        change = update(heads).where(heads.c.conversation_id == conversation, there)
        await connection.execute(change.values(node_id=head))
