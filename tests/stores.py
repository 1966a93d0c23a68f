"""What the tests of the store do with it again and again."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from scripted_service import SCRIPTED, USER
from sqlalchemy import text as sql

from chatkit.answering.options import AnswerOptions
from chatkit.chat import ChatService
from chatkit.messages import Message
from chatkit.settings import settings
from chatkit.store.conversations import NewConversation
from chatkit.store.new_node import NewNode
from chatkit.store.opening import Store, open_store
from chatkit.store.records import ConversationSettings, Feedback

PATIENCE_SECONDS = 30
SEALED = {
    "users": ["sealed_preferences"],
    "conversations": ["sealed_title", "sealed_settings"],
    "nodes": ["sealed"],
    "answers": ["sealed_error", "sealed_sampling", "sealed_ledger"],
    "feedback": ["sealed"],
    "votes": ["sealed"],
    "accounts": ["sealed_name"],
    "sessions": ["sealed_agent"],
}

Call = Callable[[ChatService, str, str, str], Awaitable[Any]]

# Every method of the service that names a conversation: given a user, the conversation, a message.
CALLS: dict[str, Call] = {
    "send": lambda it, user, conversation, node: it.send(user, conversation, "x", SCRIPTED),
    "regenerate": lambda it, *place: it.regenerate(*place, SCRIPTED),
    "edit": lambda it, *place: it.edit(*place, "x", SCRIPTED),
    "stop": lambda it, *place: it.stop(*place),
    "subscribe": lambda it, *place: anext(it.subscribe(*place)),
    "conversation": lambda it, user, conversation, _: it.conversation(user, conversation),
    "page": lambda it, user, conversation, _: it.page(user, conversation),
    "select_branch": lambda it, *place: it.select_branch(*place),
    "fork": lambda it, *place: it.fork(*place),
    "rename": lambda it, user, conversation, _: it.rename(user, conversation, "x"),
    "configure": lambda it, user, conversation, _: it.configure(
        user, conversation, ConversationSettings("x")
    ),
    "feedback": lambda it, *place: it.feedback(*place, Feedback("up")),
    "pin": lambda it, *place: it.pin(*place),
    "ledger": lambda it, *place: it.ledger(*place),
    "export": lambda it, user, conversation, _: it.export(user, [conversation]),
    "delete_branch": lambda it, *place: it.delete_branch(*place),
    "delete": lambda it, user, conversation, _: it.delete(user, conversation),
}
# Those to which a message is named.
OF_NODES = {
    "regenerate",
    "edit",
    "stop",
    "subscribe",
    "select_branch",
    "fork",
    "delete_branch",
    "feedback",
    "pin",
}


@asynccontextmanager
async def opened_store() -> AsyncIterator[Store]:
    """Open the store that the environment names."""
    store = await open_store(settings())
    try:
        yield store
    finally:
        await store.close()


async def begun(store: Store, user: str = USER, *, title: str = "", system: str = "") -> str:
    """Begin a conversation."""
    new = NewConversation(ConversationSettings(system or None), title)
    return await store.conversations.begin(user, new)


async def chain(
    store: Store, conversation: str, texts: Sequence[str], *, user: str = USER
) -> tuple[str, ...]:
    """Add messages, each after the one before it, by turns a question's and an answer's."""
    new: list[NewNode] = []
    for place, text in enumerate(texts):
        message = Message("assistant" if place % 2 else "user", text)
        new.append(NewNode(message, new[-1].id if new else None))
    return await store.nodes.add(user, conversation, new, head=new[-1].id)


async def texts(store: Store, conversation: str, head: str | None, user: str = USER) -> list[str]:
    """Give what is said on a path."""
    path = await store.nodes.path(user, conversation, head)
    return [node.message.content for node in path]


async def answer_to(
    service: ChatService,
    conversation: str,
    text: str,
    options: AnswerOptions = SCRIPTED,
    user: str = USER,
) -> str:
    """Ask, wait until the answer has ended and the title is written, and give the answer's name."""
    turn = await service.send(user, conversation, text, options)
    async for _ in service.subscribe(user, conversation, turn.answer):
        pass
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await service.conversation(user, conversation)).titled_by == "nobody":
            await asyncio.sleep(0.005)
    return turn.answer


async def rows(store: Store, statement: str) -> list[tuple[Any, ...]]:
    """Read rows of the database as they are stored."""

    async def ask(connection: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.execute(sql(statement))]

    return await store.database.read(ask)


async def change(store: Store, *statements: str) -> None:
    """Change the database behind the store's back."""

    async def work(connection: Any) -> None:
        for statement in statements:
            await connection.execute(sql(statement))

    await store.database.write(work)


async def all_rows(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Read every row of every table, in one order."""
    tables = ("users", "conversations", "nodes", "answers", "heads", "feedback", "votes", "audit")
    return {name: sorted(await rows(store, f"SELECT * FROM {name}"), key=repr) for name in tables}


async def sealed_values(store: Store) -> list[bytes]:
    """Give everything that is stored sealed."""
    found: list[bytes] = []
    for table, columns in SEALED.items():
        for row in await rows(store, f"SELECT {', '.join(columns)} FROM {table}"):
            found += [bytes(value) for value in row if value is not None]
    return found


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a script that says `ready`, and then waits for a line before it goes on."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def run_together(script: str, *arguments: str) -> list[list[str]]:
    """Let two processes do the same thing at once, and give the words that each says."""
    processes = [started(script, *arguments) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    return [said.split() for said, _ in told]
