"""The chat service on an engine that answers from a script, as tests of failure open it."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import NamedTuple

from chatkit.answering.options import AnswerOptions
from chatkit.chat import ChatService
from chatkit.engine import Engine
from chatkit.engines.opening import LoadOptions
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.live.event import Event
from chatkit.models import Models
from chatkit.service import open_chat_service
from chatkit.settings import settings
from chatkit.store.records import NodeRecord

USER = "ada"
SCRIPTED = AnswerOptions("scripted:")


class ScriptedModels(Models):
    """Lends one engine, whatever it is asked for."""

    def __init__(self, engine: ScriptedEngine) -> None:
        super().__init__(budget=1)
        self._engine = engine

    @asynccontextmanager
    async def use(self, name: str, options: LoadOptions | None = None) -> AsyncIterator[Engine]:
        """Lend the engine; see `Models.use`."""
        yield self._engine


class Seen(NamedTuple):
    """An event, and when somebody saw it, by the clock that all processes of a machine share."""

    event: Event
    at: float


def long_answer(question: str) -> str:
    """Answer with the question and 200 different words."""
    return " ".join([question, *(f"w{number}" for number in range(200))])


def slow_script(token_seconds: float = 0.02, slots: int = 32) -> Script:
    """Give a script that writes `long_answer` at 50 tokens a second."""
    return Script(answer=long_answer, token_seconds=token_seconds, slots=slots)


@asynccontextmanager
async def opened(
    script: Script | ScriptedEngine | None = None, *, unwatched_seconds: float | None = None
) -> AsyncIterator[ChatService]:
    """Open the service that the environment names; two at once are two processes to the store."""
    engine = script if isinstance(script, ScriptedEngine) else ScriptedEngine(script)
    service = await open_chat_service(
        settings(), ScriptedModels(engine), titles=False, unwatched_seconds=unwatched_seconds
    )
    try:
        yield service
    finally:
        await service.close()


async def watched(
    service: ChatService, conversation: str, answer: str, after: int = 0
) -> list[Event]:
    """Watch an answer to its end."""
    return [event async for event in service.subscribe(USER, conversation, answer, after)]


async def watch(service: ChatService, conversation: str, answer: str, seen: list[Seen]) -> None:
    """Watch an answer to its end, and note at once what is seen."""
    async for event in service.subscribe(USER, conversation, answer):
        seen.append(Seen(event, time.monotonic()))


async def asked(service: ChatService, conversation: str, question: str) -> str:
    """Ask, wait for the end of the answer, and give its text."""
    turn = await service.send(USER, conversation, question, SCRIPTED)
    await watched(service, conversation, turn.answer)
    return (await stored(service, conversation, turn.answer)).message.content


async def stored(service: ChatService, conversation: str, node: str) -> NodeRecord:
    """Read a message from the store."""
    return await service.room(conversation).store.nodes.find(USER, conversation, node)


def status_of(node: NodeRecord) -> str:
    """Tell how an answer stands."""
    assert node.facts is not None
    return node.facts.status


def shown(events: Iterable[Event], before: str = "") -> str:
    """Give the text that a screen shows after events, as long as they tell of text."""
    text = before
    for event in events:
        if event.kind == "snapshot":
            text = event.text
        elif event.kind == "delta":
            text += event.text
    return text


def rises(events: Iterable[Event]) -> bool:
    """Tell whether no event came twice or out of order."""
    numbers = [event.seq for event in events]
    return all(first < second for first, second in pairwise(numbers))
