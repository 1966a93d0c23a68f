"""The messages of conversations: adds them, and reads the path that a person or a model sees."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import insert, select, update

from chatkit.errors import NotFound
from chatkit.sealing import Seal
from chatkit.store.conversations import owned, touch
from chatkit.store.database import Database
from chatkit.store.keys import Keys, no_conversation
from chatkit.store.new_node import NewNode, new_row
from chatkit.store.node_queries import (
    before_adding_query,
    children,
    leaf_query,
    path_query,
    with_facts,
)
from chatkit.store.node_rows import facts_to_row, opened
from chatkit.store.records import NodeRecord
from chatkit.store.schema import answers, heads, nodes
from chatkit.store.text_index import make_searchable
from chatkit.store.transaction import Transaction

# A deeper path is cut at its beginning rather than read without end.
DEEPEST_PATH = 100_000


class Nodes:
    """The messages of all conversations; each method names the user, and finds only theirs.

    Args:
        database: where they are.
        keys: what opens them.
    """

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    async def add(
        self, user: str, conversation: str, new: Sequence[NewNode], *, head: str | None = None
    ) -> tuple[str, ...]:
        """Add messages in one step; they are on disk when this returns.

        When the first one's `client_id` was sent before, nothing is added and the names of that
        time are given.

        Args:
            user: whose conversation it is.
            conversation: its name.
            new: the messages, parents before children.
            head: where the reader stands afterwards; None leaves it.

        Returns: the names of the messages, in order.

        Raises:
            NotFound: the conversation or the parent does not exist, or is someone else's.
        """
        seal = await self._keys.of_conversation(user, conversation)

        async def work(connection: Transaction) -> tuple[str, ...]:
            earlier = await self._check(connection, user, conversation, new[0])
            if earlier is not None:
                return await self._added_then(connection, conversation, earlier, len(new))
            await self.insert(connection, conversation, seal, new)
            await self._advance(connection, user, conversation, head)
            return tuple(node.id for node in new)

        return await self._database.write(work)

    async def insert(
        self,
        connection: Transaction,
        conversation: str,
        seal: Seal,
        new: Sequence[NewNode],
    ) -> None:
        """Insert messages of one conversation inside a transaction."""
        rows = [new_row(conversation, seal, node) for node in new]
        await connection.execute(insert(nodes), rows)
        facts = [
            {"node_id": node.id, "worker": node.worker, **facts_to_row(node.id, node.facts, seal)}
            for node in new
            if node.facts is not None
        ]
        if facts:
            await connection.execute(insert(answers), facts)
        if not self._keys.encrypted:
            texts = {node.id: node.message.content for node in new}
            await make_searchable(connection, self._database, texts)

    async def path(
        self, user: str, conversation: str, head: str | None, limit: int = DEEPEST_PATH
    ) -> tuple[NodeRecord, ...]:
        """Give the messages that lead to `head`, the oldest first.

        Args:
            user: whose conversation it is.
            conversation: its name.
            head: the last message, None gives an empty path.
            limit: the newest so many only.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        seal = await self._keys.of_conversation(user, conversation)
        asked = {"conversation": conversation, "head": head, "limit": limit}

        async def ask(connection: Transaction) -> list[Any]:
            await owned(connection, user, conversation)
            if head is None:
                return []
            return list(await connection.execute(path_query(), asked))

        rows = await self._database.read(ask)
        if head is not None and not rows:
            raise no_message(head)
        return tuple(opened(row, seal) for row in reversed(rows))

    async def tree(self, user: str, conversation: str) -> tuple[NodeRecord, ...]:
        """Give every message of a conversation and every summary, in the order they came.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """
        seal = await self._keys.of_conversation(user, conversation)
        query = with_facts().where(nodes.c.conversation_id == conversation)

        async def ask(connection: Transaction) -> list[Any]:
            await owned(connection, user, conversation)
            return list(await connection.execute(query.order_by(nodes.c.number)))

        return tuple(opened(row, seal) for row in await self._database.read(ask))

    async def find(self, user: str, conversation: str, id: str) -> NodeRecord:
        """Find one message.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        return (await self.path(user, conversation, id, limit=1))[0]

    async def siblings(
        self, user: str, conversation: str, parents: Iterable[str | None]
    ) -> dict[str | None, tuple[str, ...]]:
        """Name the messages after each parent, oldest first.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """
        wanted = set(parents)

        async def ask(connection: Transaction) -> list[Any]:
            await owned(connection, user, conversation)
            return list(await connection.execute(*children(conversation, wanted)))

        found: dict[str | None, tuple[str, ...]] = dict.fromkeys(wanted, ())
        for row in await self._database.read(ask):
            found[row.parent] += (row.id,)
        return found

    async def leaf(self, user: str, conversation: str, id: str) -> str:
        """Give the end of the newest branch that leads through a message.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """

        async def ask(connection: Transaction) -> str | None:
            await owned(connection, user, conversation)
            asked = {"conversation": conversation, "id": id}
            found: str | None = (await connection.execute(leaf_query(), asked)).scalar()
            return found

        found = await self._database.read(ask)
        if found is None:
            raise no_message(id)
        return found

    async def summary_on(
        self, user: str, conversation: str, path: Sequence[str]
    ) -> NodeRecord | None:
        """Find the newest summary that stands for the beginning of a path."""
        seal = await self._keys.of_conversation(user, conversation)

        async def ask(connection: Transaction) -> list[Any]:
            query = with_facts().where(
                nodes.c.conversation_id == conversation, nodes.c.kind == "summary"
            )
            return list(await connection.execute(query.order_by(nodes.c.number.desc())))

        place = {id: index for index, id in enumerate(path)}
        rows = [row for row in await self._database.read(ask) if row.parent in place]
        newest = max(rows, key=lambda row: place[row.parent], default=None)
        return opened(newest, seal) if newest is not None else None

    async def set_head(self, user: str, conversation: str, head: str | None) -> None:
        """Note where a reader stands.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """

        async def work(connection: Transaction) -> None:
            await owned(connection, user, conversation)
            await self._require(connection, conversation, head)
            await self.put_head(connection, user, conversation, head)

        await self._database.write(work)

    async def pin(self, user: str, conversation: str, id: str, pinned: bool) -> None:
        """Keep a message in the model's window, or no longer.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """

        async def work(connection: Transaction) -> None:
            await owned(connection, user, conversation)
            await self._require(connection, conversation, id)
            await connection.execute(update(nodes).where(nodes.c.id == id).values(pinned=pinned))

        await self._database.write(work)

    async def _check(
        self, connection: Transaction, user: str, conversation: str, first: NewNode
    ) -> str | None:
        """Refuse what may not be added; name the message that the same sending added before."""
        asked = {
            "conversation": conversation,
            "client_id": first.client_id or "",
            "parent": first.parent or "",
            "id": first.id,
        }
        row = (await connection.execute(before_adding_query(), asked)).first()
        if row is None or row[0] != user:
            raise no_conversation(conversation)
        if first.client_id is not None and row[1] is not None:
            return str(row[1])
        if first.parent != row[2]:
            raise no_message(first.parent)
        return row[3] and str(row[3])

    async def _added_then(
        self, connection: Transaction, conversation: str, first: str, count: int
    ) -> tuple[str, ...]:
        """Name what an earlier sending of the same message added: it and what follows it."""
        found = [first]
        while len(found) < count:
            row = (await connection.execute(*children(conversation, {found[-1]}))).first()
            if row is None:
                break
            found.append(row.id)
        return tuple(found)

    async def there(self, connection: Transaction, id: str) -> bool:
        """Tell whether there is a message of this name, inside a transaction."""
        query = select(nodes.c.number).where(nodes.c.id == id)
        return (await connection.execute(query)).first() is not None

    async def _require(self, connection: Transaction, conversation: str, id: str | None) -> None:
        query = select(nodes.c.number).where(
            nodes.c.id == id, nodes.c.conversation_id == conversation
        )
        if id is not None and (await connection.execute(query)).first() is None:
            raise no_message(id)

    async def _advance(
        self, connection: Transaction, user: str, conversation: str, head: str | None
    ) -> None:
        await touch(connection, conversation, time.time())
        if head is not None:
            await self.put_head(connection, user, conversation, head)

    async def put_head(
        self, connection: Transaction, user: str, conversation: str, head: str | None
    ) -> None:
        """Note where a reader stands, inside a transaction."""
        row = {"user_id": user, "conversation_id": conversation, "node_id": head}
        await connection.execute(self._database.put(heads), row)


def no_message(id: str | None) -> NotFound:
    """Make the error for a message that does not exist in a conversation."""
    return NotFound(f"There is no message {id!r} in this conversation; see its path.")
