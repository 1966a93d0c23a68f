"""Votes on the answers of two models: of a notebook's comparison and of the app's arena alike."""

import json
import secrets
import time
from typing import Any

from sqlalchemy import delete, select

from chatkit.errors import NotFound
from chatkit.messages import as_messages
from chatkit.store.database import Database
from chatkit.store.keys import Keys
from chatkit.store.records import VoteRecord
from chatkit.store.schema import users, votes
from chatkit.store.transaction import Transaction


class Votes:
    """What people prefer, each vote with what was asked and both answers, sealed for its voter.

    Args:
        database: where they are.
        keys: what opens them.
    """

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    async def cast(self, user: str, vote: VoteRecord) -> str:
        """Store a vote, and give its name."""
        id = secrets.token_hex(8)
        row = {
            "id": id,
            "user_id": user,
            "first": vote.first,
            "second": vote.second,
            "won": vote.won,
            "blind": vote.blind,
            "sealed": (await self._keys.of_user(user)).close(_to_text(vote), f"vote:{id}"),
            "created": time.time(),
        }

        async def work(connection: Transaction) -> None:
            new = {"id": user, "created": time.time()}
            await connection.execute(self._database.insert_new(users), new)
            await connection.execute(self._database.insert_new(votes), row)

        await self._database.write(work)
        return id

    async def of(self, user: str) -> dict[str, VoteRecord]:
        """Give a user's votes by name, the oldest first."""
        query = select(votes).where(votes.c.user_id == user)

        async def ask(connection: Transaction) -> list[Any]:
            return list(await connection.execute(query.order_by(votes.c.created, votes.c.id)))

        rows = await self._database.read(ask)
        if not rows:
            return {}
        seal = await self._keys.of_user(user)
        return {row.id: _from_row(row, seal.open(row.sealed, f"vote:{row.id}")) for row in rows}

    async def users(self) -> tuple[str, ...]:
        """Name everybody who has voted."""
        query = select(votes.c.user_id).distinct().order_by(votes.c.user_id)

        async def ask(connection: Transaction) -> tuple[str, ...]:
            return tuple((await connection.execute(query)).scalars())

        return await self._database.read(ask)

    async def take_back(self, user: str, id: str) -> None:
        """Delete a vote.

        Raises:
            NotFound: there is none of this name, or it is someone else's.
        """
        gone = delete(votes).where(votes.c.id == id, votes.c.user_id == user)

        async def work(connection: Transaction) -> int:
            return int((await connection.execute(gone)).rowcount)

        if not await self._database.write(work):
            raise NotFound(f"There is no vote {id!r}; it may have been taken back already.")


def _to_text(vote: VoteRecord) -> str:
    body = {
        "prompt": [{"role": one.role, "content": one.content} for one in vote.prompt],
        "first": vote.first_answer,
        "second": vote.second_answer,
    }
    return json.dumps(body, ensure_ascii=False)


def _from_row(row: Any, text: str) -> VoteRecord:
    body = json.loads(text)
    return VoteRecord(
        as_messages(body["prompt"]),
        row.first,
        row.second,
        body["first"],
        body["second"],
        row.won,
        row.blind,
    )
