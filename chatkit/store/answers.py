"""How answers come about: their text while it grows, and the facts when they have ended."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update

from chatkit.messages import Message
from chatkit.sealing import Seal
from chatkit.store.conversations import owned, touch
from chatkit.store.database import Database
from chatkit.store.keys import Keys
from chatkit.store.node_queries import with_facts
from chatkit.store.node_rows import facts_to_row, opened
from chatkit.store.records import AnswerFacts, NodeRecord, message_to_text
from chatkit.store.schema import answers, is_open, nodes
from chatkit.store.text_index import make_searchable
from chatkit.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Growth:
    """What an answer is at one moment.

    Args:
        node: its name.
        message: what there is of it.
        seq: the number of the last event whose text is in it.
        seal: what seals it.
    """

    node: str
    message: Message
    seq: int
    seal: Seal


class Answers:
    """The answers that this and other processes write.

    Args:
        database: where they are.
        keys: what opens them.
    """

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    async def flush(self, worker: str, grown: Sequence[Growth]) -> frozenset[str]:
        """Store what several answers have become.

        An answer that another process has ended in the meantime is left as it is.

        Args:
            worker: the process that writes them.
            grown: what they are now.

        Returns: the names of those whose reader has asked to stop.
        """
        mine = (answers.c.worker == worker) & is_open
        progress = (
            update(answers)
            .where(answers.c.node_id == bindparam("node"), mine)
            .values(flushed=bindparam("seq"), status="running")
        )
        still_mine = select(answers.c.node_id).where(answers.c.node_id == bindparam("node"), mine)
        growth = (
            update(nodes)
            .where(nodes.c.id == bindparam("node"), still_mine.exists())
            .values(sealed=bindparam("text"))
        )
        rows = [
            {
                "node": one.node,
                "seq": one.seq,
                "text": one.seal.close(message_to_text(one.message), f"node:{one.node}"),
            }
            for one in grown
        ]

        async def work(connection: Transaction) -> frozenset[str]:
            if rows:
                # In this order, which is that of `finish`: whoever has the answer's row goes
                # first, and text that is late never takes the place of an ended answer's.
                await connection.execute(progress, rows)
                await connection.execute(growth, rows)
            asked = select(answers.c.node_id).where(mine, answers.c.stop_asked)
            return frozenset((await connection.execute(asked)).scalars())

        return await self._database.write(work, "soon")

    async def note_ledger(self, growth: Growth, ledger: str, template_identity: str) -> None:
        """Store what was put into the model's window for an answer, and by which template."""
        # A ledger names every message, and is stored with every answer.
        packed = base64.b85encode(zlib.compress(ledger.encode())).decode()
        sealed = growth.seal.close(packed, f"ledger:{growth.node}")
        change = update(answers).where(answers.c.node_id == growth.node)

        async def work(connection: Transaction) -> None:
            await connection.execute(
                change.values(sealed_ledger=sealed, template_identity=template_identity)
            )

        await self._database.write(work, "soon")

    async def ledger(self, user: str, conversation: str, node: str) -> str | None:
        """Give the ledger of an answer, None when it has none.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """
        seal = await self._keys.of_conversation(user, conversation)

        async def ask(connection: Transaction) -> bytes | None:
            await owned(connection, user, conversation)
            query = (
                select(answers.c.sealed_ledger)
                .join(nodes, nodes.c.id == answers.c.node_id)
                .where(answers.c.node_id == node, nodes.c.conversation_id == conversation)
            )
            found: bytes | None = (await connection.execute(query)).scalar()
            return found

        sealed = await self._database.read(ask)
        if not sealed:
            return None
        packed = seal.open(sealed, f"ledger:{node}")
        return zlib.decompress(base64.b85decode(packed)).decode()

    async def finish(
        self, conversation: str, worker: str, growth: Growth, facts: AnswerFacts, now: float
    ) -> bool:
        """Store an answer as it ended; it is on disk when this returns.

        Returns: False when another process had ended it already, and nothing was changed.
        """
        columns = {
            name: value
            for name, value in facts_to_row(growth.node, facts, growth.seal).items()
            if name not in ("request_id", "sealed_sampling", "template_identity", "flushed")
        }
        mine = (answers.c.worker == worker) & is_open
        end = update(answers).where(answers.c.node_id == growth.node, mine)
        text = growth.seal.close(message_to_text(growth.message), f"node:{growth.node}")

        async def work(connection: Transaction) -> bool:
            done = await connection.execute(end.values(**columns, flushed=growth.seq))
            if done.rowcount == 0:
                return await _ended_as(connection, growth.node, facts.status)
            change = update(nodes).where(nodes.c.id == growth.node)
            await connection.execute(change.values(sealed=text))
            await touch(connection, conversation, now)
            if not self._keys.encrypted:
                texts = {growth.node: growth.message.content}
                await make_searchable(connection, self._database, texts)
            return True

        return await self._database.write(work)

    async def ask_to_stop(self, user: str, conversation: str, node: str) -> None:
        """Ask whoever writes an answer to stop.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """
        here = select(nodes.c.id).where(nodes.c.conversation_id == conversation)
        change = update(answers).where(answers.c.node_id == node, answers.c.node_id.in_(here))

        async def work(connection: Transaction) -> None:
            await owned(connection, user, conversation)
            await connection.execute(change.values(stop_asked=True))

        await self._database.write(work, "soon")

    async def running(self, user: str, conversation: str) -> tuple[NodeRecord, ...]:
        """Give the answers of a conversation that are not over.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """
        seal = await self._keys.of_conversation(user, conversation)
        query = with_facts().where(nodes.c.conversation_id == conversation, is_open)

        async def ask(connection: Transaction) -> tuple[NodeRecord, ...]:
            await owned(connection, user, conversation)
            return tuple(opened(row, seal) for row in await connection.execute(query))

        return await self._database.read(ask)

    async def recent(self, user: str, conversation: str, limit: int = 500) -> tuple[str, ...]:
        """Name the newest answers of a conversation.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """
        query = (
            select(nodes.c.id)
            .where(nodes.c.conversation_id == conversation, nodes.c.role == "assistant")
            .order_by(nodes.c.number.desc())
            .limit(limit)
        )

        async def ask(connection: Transaction) -> tuple[str, ...]:
            await owned(connection, user, conversation)
            return tuple((await connection.execute(query)).scalars())

        return await self._database.read(ask)


async def _ended_as(connection: Transaction, node: str, status: str) -> bool:
    """Tell whether an answer has this status: then an earlier try of the same end succeeded."""
    query = select(answers.c.status).where(answers.c.node_id == node)
    return bool((await connection.execute(query)).scalar() == status)
