"""Every question that a page, a turn or the clock asks of the database is answered by an index."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest
from scripted_service import SCRIPTED, USER, opened
from sqlalchemy import event
from sqlalchemy.engine import Engine
from stores import answer_to

from chatkit.chat import ChatService
from chatkit.engines.scripted import Script
from chatkit.store.conversations import Cursor
from chatkit.store.records import ConversationSettings, Feedback

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

BIG = "nodes|child|conversations|answers|heads|feedback"


class Asked(NamedTuple):
    """A statement as it went to the database."""

    statement: str
    parameters: Any


@contextmanager
def listening(place: str) -> Iterator[dict[str, Asked]]:
    """Note every different statement that goes to one database."""
    asked: dict[str, Asked] = {}

    def note(connection: Any, _: Any, statement: str, parameters: Any, *rest: Any) -> None:
        many = rest[1]
        here = str(connection.engine.url.database) in place
        if here and re.match(r"SELECT|WITH|UPDATE|DELETE", statement):
            asked.setdefault(statement, Asked(statement, parameters[0] if many else parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def used(service: ChatService) -> None:
    """Do everything that pages do, and what the service does by itself."""
    store = service.store
    settings = ConversationSettings("Be brief.", "summarise")
    conversation = await service.begin(USER, settings)
    for number in range(6):
        answer = await answer_to(service, conversation, f"question {number} {'x' * 60}")
    page = await service.page(USER, conversation, limit=3)
    await service.page(USER, conversation, head=page.messages[0].node.parent)
    await service.select_branch(USER, conversation, page.messages[0].node.id)
    await service.feedback(USER, conversation, answer, Feedback("up", (), "good"))
    await service.pin(USER, conversation, answer)
    await service.ledger(USER, conversation, answer)
    await service.search(USER, "question")
    turn = await service.regenerate(USER, conversation, answer, SCRIPTED)
    await service.stop(USER, conversation, turn.answer)
    await store.answers.ask_to_stop(USER, conversation, turn.answer)
    await store.answers.running(USER, conversation)
    await service.rename(USER, conversation, "other")
    await service.configure(USER, conversation, settings)
    await service.fork(USER, conversation, answer)
    await service.export(USER)
    await store.opinions.prefer(USER, {"tone": "dry"})
    await store.opinions.preferences(USER)
    first = (await service.conversations(USER, 1))[0]
    await service.conversations(USER, 9, Cursor(first.updated, first.id))
    await service.set_retention(USER, 30)
    await store.answers.flush("nobody", [])
    await store.workers.beats()
    await store.workers.claim("nobody", "nobody else")
    await store.erasure.expire(None, 0)
    await store.erasure.expire(30, 0)
    await service.delete(USER, conversation)
    await service.delete_user(USER)


def sqlite_plan(file: str, asked: Asked) -> str:
    connection = sqlite3.connect(file)
    try:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {asked.statement}", asked.parameters)
        return "\n".join(row[3] for row in rows)
    finally:
        connection.close()


async def postgres_plan(connection: Any, asked: Asked) -> str:
    rows = await connection.fetch(f"EXPLAIN {asked.statement}", *asked.parameters)
    return "\n".join(row[0] for row in rows)


@pytest.mark.lengthy
@pytest.mark.parametrize("encryption", ["on", "off"])
async def test_no_question_reads_a_whole_table(
    database: str, monkeypatch: pytest.MonkeyPatch, encryption: str
) -> None:
    monkeypatch.setenv("CHATKIT_ENCRYPTION", encryption)
    script = Script(context=900, answer=lambda text: f"short {text[:10]}")
    plans: dict[str, str] = {}
    async with opened(script) as service:
        with listening(database) as asked:
            await used(service)
    if database.startswith("sqlite"):
        # The small index of answers that are being written is read whole.
        whole = re.compile(rf"SCAN ({BIG})\b(?! USING( COVERING)? INDEX answers_open)")
        plans = {key: sqlite_plan(urlsplit(database).path, one) for key, one in asked.items()}
    else:
        whole = re.compile(rf"Seq Scan on ({BIG})\b")
        connection = await asyncpg.connect(database.replace("+asyncpg", ""))
        await connection.execute("SET enable_seqscan = off")
        plans = {key: await postgres_plan(connection, one) for key, one in asked.items()}
        await connection.close()
    assert len(plans) > 30
    slow = [f"{statement}\n{plan}" for statement, plan in plans.items() if whole.search(plan)]
    assert not slow, "\n\n".join(slow)
