"""Processes that are killed or ended while they answer, and two that write at once."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scripted_service import (
    SCRIPTED,
    USER,
    Seen,
    asked,
    long_answer,
    opened,
    rises,
    shown,
    status_of,
    stored,
    watch,
)
from services import Postgres, Redis

from chatkit.answering import pulse
from chatkit.chat import ChatService
from chatkit.live.event import Event
from chatkit.store.records import NodeRecord

pytestmark = [pytest.mark.anyio, pytest.mark.lengthy]

ANSWERS = 20
# What a killed process may lose of what was seen.
LOST_SECONDS = 0.25
PATIENCE_SECONDS = 30.0


@dataclass
class Turn:
    """What another process said about one question, and about its answer."""

    conversation: str = ""
    question: str = ""
    answer: str = ""
    seen: list[Seen] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        """What was seen."""
        return [seen.event for seen in self.seen]


@dataclass
class Worker:
    """A process that runs `service_worker.py`, and what it has said so far."""

    process: subprocess.Popen[bytes]
    said: Path

    @property
    def turns(self) -> dict[str, Turn]:
        """The acknowledged questions by their names."""
        turns: dict[str, Turn] = {}
        for line in self.said.read_text().splitlines(keepends=True):
            # The last line of a killed process may be half a line.
            if line.endswith("\n"):
                _note(turns, json.loads(line))
        return turns

    def end(self, how: signal.Signals) -> float:
        """Send a signal, wait for the end, and tell when the signal was sent."""
        at = time.monotonic()
        os.kill(self.process.pid, how)
        self.process.wait(PATIENCE_SECONDS)
        return at

    async def until(self, many: int, events: int = 0) -> None:
        """Wait until so many questions are acknowledged, and of each so many events are seen."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            turns = self.turns.values()
            if len(turns) == many and all(len(turn.seen) >= events for turn in turns):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"the process said only {self.said.read_text()[-500:]}")


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Any]:
    """Start processes, and leave none behind."""
    started: list[Worker] = []

    def start(*arguments: str) -> Worker:
        said = tmp_path / f"said-{len(started)}"
        command = [sys.executable, str(Path(__file__).with_name("service_worker.py"))]
        with said.open("wb") as output:
            process = subprocess.Popen([*command, *arguments], stdout=output)
        started.append(Worker(process, said))
        return started[-1]

    yield start
    for worker in started:
        worker.process.kill()
        worker.process.wait()


@pytest.fixture
def quick_reaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a process for dead after half a second."""
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(pulse, "SILENT_SECONDS", 0.5)


async def test_a_killed_process_loses_at_most_the_last_quarter_of_a_second(
    workers: Any, quick_reaper: None
) -> None:
    worker = workers("answer", str(ANSWERS))
    await worker.until(ANSWERS, events=30)
    killed = worker.end(signal.SIGKILL)
    async with opened() as service:
        nodes = await ended(service, worker.turns)
        lost = {
            name: missing(shown(known(turn, killed - LOST_SECONDS)), nodes[name])
            for name, turn in worker.turns.items()
        }
        assert sum(lost.values()) == 0, lost
        for name, turn in worker.turns.items():
            assert_honest(name, nodes[name])
            question = await stored(service, turn.conversation, turn.question)
            assert question.message.content == name


@pytest.mark.services
async def test_another_process_ends_what_a_killed_one_wrote_and_loses_nothing(
    workers: Any, postgres: Postgres, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real beats: the other process has 15 seconds."""
    monkeypatch.setenv("CHATKIT_DATABASE_URL", postgres.new_database())
    monkeypatch.setenv("CHATKIT_REDIS_URL", redis_server.new_database())
    async with opened() as service:
        worker = workers("answer", str(ANSWERS))
        await worker.until(ANSWERS)
        names = worker.turns
        others: dict[str, list[Seen]] = {name: [] for name in names}
        watching = [
            asyncio.create_task(watch(service, turn.conversation, turn.answer, others[name]))
            for name, turn in names.items()
        ]
        await worker.until(ANSWERS, events=60)
        killed = worker.end(signal.SIGKILL)
        await asyncio.wait_for(asyncio.gather(*watching), killed + 15 - time.monotonic())
        for name, turn in worker.turns.items():
            node = await stored(service, turn.conversation, turn.answer)
            events = [seen.event for seen in others[name]]
            assert events[-1].kind == "interrupted" and rises(events)
            assert shown(events) == node.message.content
            assert missing(shown(known(turn, killed - LOST_SECONDS)), node) == 0
            assert_honest(name, node)


async def test_a_process_that_is_told_to_end_loses_nothing_at_all(workers: Any) -> None:
    worker = workers("answer", "5")
    await worker.until(5, events=30)
    worker.end(signal.SIGTERM)
    assert worker.process.returncode == 0
    async with opened() as service:
        for name, turn in worker.turns.items():
            node = await stored(service, turn.conversation, turn.answer)
            assert_honest(name, node)
            assert turn.events[-1].kind == "interrupted"
            assert shown(turn.events) == node.message.content


async def test_what_was_sent_to_a_killed_process_and_again_is_one_turn(workers: Any) -> None:
    worker = workers("answer", "2")
    await worker.until(2)
    worker.end(signal.SIGKILL)
    async with opened() as service:
        for name, turn in worker.turns.items():
            again = await service.send(USER, turn.conversation, name, SCRIPTED, client_id=name)
            assert again == (turn.question, turn.answer)
            assert len(await service.store.nodes.tree(USER, turn.conversation)) == 2


async def test_a_conversation_goes_on_after_its_process_was_killed(
    workers: Any, quick_reaper: None
) -> None:
    worker = workers("answer", "1")
    await worker.until(1, events=10)
    worker.end(signal.SIGKILL)
    async with opened() as service:
        (turn,) = worker.turns.values()
        await ended(service, worker.turns)
        assert await asked(service, turn.conversation, "again") == "You said: again"
        new = await service.regenerate(USER, turn.conversation, turn.answer, SCRIPTED)
        siblings = await service.store.nodes.siblings(USER, turn.conversation, {turn.question})
        assert siblings[turn.question][-1] == new.answer


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
async def database(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """Both databases, one after the other."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        monkeypatch.setenv("CHATKIT_DATABASE_URL", server.new_database())
    yield request.param


async def test_two_processes_that_append_at_once_make_siblings(workers: Any, database: str) -> None:
    each = 15
    async with opened() as service:
        conversation = await service.begin(USER)
        await asked(service, conversation, "first")
        parent = (await service.page(USER, conversation)).messages[-1].node.id
        both = [workers("append", conversation, parent, str(each)) for _ in range(2)]
        for worker in both:
            await worker.until(each)
        acknowledged = {turn.question for worker in both for turn in worker.turns.values()}
        siblings = await service.store.nodes.siblings(USER, conversation, {parent})
        assert len(acknowledged) == 2 * each and set(siblings[parent]) == acknowledged
        assert len(siblings[parent]) == 2 * each
        for worker in both:
            worker.end(signal.SIGTERM)
        for node in await service.store.nodes.tree(USER, conversation):
            assert node.facts is None or not node.facts.open


async def test_the_same_question_sent_twice_at_once_is_one_turn(database: str) -> None:
    async with opened() as here, opened() as there:
        conversation = await here.begin(USER)
        turns = await asyncio.gather(
            *(
                service.send(USER, conversation, "hi", SCRIPTED, client_id="one", parent=None)
                for service in (here, there) * 10
            )
        )
        assert len(set(turns)) == 1
        assert len(await here.store.nodes.tree(USER, conversation)) == 2


def _note(turns: dict[str, Turn], fact: dict[str, Any]) -> None:
    if "answer" in fact:
        names = (fact["conversation"], fact["question"], fact["answer"])
        turns[fact["name"]] = Turn(*names)
    elif "seq" in fact:
        event = Event(fact["seq"], fact["kind"], fact["text"])
        turns[fact["name"]].seen.append(Seen(event, fact["at"]))


def known(turn: Turn, before: float) -> list[Event]:
    """Give what was seen of an answer before a moment."""
    return [seen.event for seen in turn.seen if seen.at < before]


def missing(text: str, node: NodeRecord) -> int:
    """Count the characters of a text that are not stored."""
    assert node.message.content.startswith(text) or text.startswith(node.message.content)
    return max(len(text) - len(node.message.content), 0)


def assert_honest(question: str, node: NodeRecord) -> None:
    """What is stored was written, and is said to be interrupted."""
    assert status_of(node) == "interrupted"
    assert node.message.content and long_answer(question).startswith(node.message.content)


async def ended(service: ChatService, turns: dict[str, Turn]) -> dict[str, NodeRecord]:
    """Wait until every answer is over, at most 15 seconds."""
    deadline = time.monotonic() + 15.0
    while time.monotonic() < deadline:
        nodes = {
            name: await stored(service, turn.conversation, turn.answer)
            for name, turn in turns.items()
        }
        if not any(status_of(node) in ("queued", "running") for node in nodes.values()):
            return nodes
        await asyncio.sleep(0.1)
    raise AssertionError("some answers are still open after 15 seconds")
