"""Signs of life of the processes that write answers, and what dead ones left behind."""

from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select, update

from chatkit.store.database import Database
from chatkit.store.schema import answers, conversations, is_open, nodes, workers
from chatkit.store.transaction import Transaction


class Orphan(NamedTuple):
    """An answer that nobody writes any more, and whose it is."""

    node: str
    conversation: str
    user: str


class Workers:
    """The processes that write answers into one database.

    Args:
        database: where they are noted.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def beat(self, worker: str) -> None:
        """Give a sign of life."""

        async def work(connection: Transaction) -> None:
            change = update(workers).where(workers.c.id == worker)
            done = await connection.execute(change.values(beat=workers.c.beat + 1))
            if done.rowcount == 0:
                await connection.execute(insert(workers).values(id=worker, beat=1))

        await self._database.write(work, "soon")

    async def beats(self) -> dict[str, int]:
        """Give the number of signs that each process has given; 0 for one that is not noted."""
        open_ones = select(answers.c.worker).where(is_open).distinct()

        async def ask(connection: Transaction) -> dict[str, int]:
            found = {str(id): 0 for id in (await connection.execute(open_ones)).scalars()}
            rows = await connection.execute(select(workers))
            return found | {row.id: row.beat for row in rows}

        return await self._database.read(ask)

    async def claim(self, dead: str, worker: str) -> tuple[Orphan, ...]:
        """Take over what a dead process was writing, to end it; one process gets each answer.

        Args:
            dead: the process that gives no more signs.
            worker: the process that takes over.
        """
        left = (answers.c.worker == dead) & is_open
        query = (
            select(answers.c.node_id, nodes.c.conversation_id, conversations.c.user_id)
            .join(nodes, nodes.c.id == answers.c.node_id)
            .join(conversations, conversations.c.id == nodes.c.conversation_id)
            .where(left)
            .with_for_update(of=answers)
        )

        async def work(connection: Transaction) -> list[Any]:
            orphans = list(await connection.execute(query))
            await connection.execute(update(answers).where(left).values(worker=worker))
            await connection.execute(delete(workers).where(workers.c.id == dead))
            return orphans

        return tuple(Orphan(*row) for row in await self._database.write(work))
