"""What people think of answers, and how they like the app."""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import bindparam, select, update

from chatkit.errors import InputError
from chatkit.sealing import Seal
from chatkit.store.conversations import owned
from chatkit.store.database import Database
from chatkit.store.keys import Keys
from chatkit.store.nodes import no_message
from chatkit.store.records import Feedback
from chatkit.store.schema import feedback, nodes, users
from chatkit.store.transaction import Transaction

# The preference by which a user lets their conversations and votes be trained on.
CONSENT = "training"
_OPINIONS = select(feedback).where(
    feedback.c.node_id.in_(bindparam("answers", expanding=True)),
    feedback.c.user_id == bindparam("user"),
)


class Opinions:
    """Feedback on answers, and preferences of users.

    Args:
        database: where they are.
        keys: what opens them.
    """

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    async def give(self, user: str, conversation: str, node: str, opinion: Feedback) -> None:
        """Store what a user thinks of an answer, in place of what was thought before.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
            InputError: the message is no answer.
        """
        seal = await self._keys.of_conversation(user, conversation)
        row = feedback_row(user, node, opinion, seal)

        async def work(connection: Transaction) -> None:
            await owned(connection, user, conversation)
            query = select(nodes.c.role).where(
                nodes.c.id == node, nodes.c.conversation_id == conversation
            )
            role = (await connection.execute(query)).scalar()
            if role is None:
                raise no_message(node)
            if role != "assistant":
                raise InputError(f"The message {node!r} is no answer; give feedback on answers.")
            await connection.execute(self._database.put(feedback), row)

        await self._database.write(work)

    async def on(self, user: str, conversation: str, ids: Iterable[str]) -> dict[str, Feedback]:
        """Give what a user thinks of some answers.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """
        seal = await self._keys.of_conversation(user, conversation)
        wanted = list(ids)

        async def ask(connection: Transaction) -> list[tuple[str, str | None, bytes]]:
            await owned(connection, user, conversation)
            found: list[tuple[str, str | None, bytes]] = []
            for start in range(0, len(wanted), 500):
                asked = {"user": user, "answers": wanted[start : start + 500]}
                rows = await connection.execute(_OPINIONS, asked)
                found += [(row.node_id, row.thumb, row.sealed) for row in rows]
            return found

        opinions: dict[str, Feedback] = {}
        for id, thumb, sealed in await self._database.read(ask):
            body = json.loads(seal.open(sealed, f"feedback:{id}"))
            opinions[id] = Feedback(thumb, tuple(body["tags"]), body["comment"])  # type: ignore[arg-type]
        return opinions

    async def preferences(self, user: str) -> dict[str, Any]:
        """Give what a user prefers; empty when nothing was set."""

        async def ask(connection: Transaction) -> bytes | None:
            query = select(users.c.sealed_preferences).where(users.c.id == user)
            found: bytes | None = (await connection.execute(query)).scalar()
            return found

        sealed = await self._database.read(ask)
        if not sealed:
            return {}
        text = (await self._keys.of_user(user)).open(sealed, f"preferences:{user}")
        value: dict[str, Any] = json.loads(text)
        return value

    async def prefer(self, user: str, preferences: Mapping[str, Any]) -> None:
        """Store what a user prefers, in place of what was set before."""
        text = json.dumps(dict(preferences), ensure_ascii=False)
        sealed = (await self._keys.of_user(user)).close(text, f"preferences:{user}")

        async def work(connection: Transaction) -> None:
            new = {"id": user, "created": time.time()}
            await connection.execute(self._database.insert_new(users), new)
            change = update(users).where(users.c.id == user)
            await connection.execute(change.values(sealed_preferences=sealed))

        await self._database.write(work)


def feedback_row(user: str, node: str, opinion: Feedback, seal: Seal) -> dict[str, Any]:
    """Write what a user thinks of an answer as columns."""
    body = json.dumps({"tags": opinion.tags, "comment": opinion.comment}, ensure_ascii=False)
    return {
        "node_id": node,
        "user_id": user,
        "thumb": opinion.thumb,
        "sealed": seal.close(body, f"feedback:{node}"),
        "created": time.time(),
    }
