"""PostgreSQL and Redis that go away and come back while people read."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

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
    slow_script,
    status_of,
    stored,
    watch,
    watched,
)
from service import Service
from services import Postgres, Redis

from chatkit.answering import pulse
from chatkit.chat import ChatService
from chatkit.live.event import Event
from chatkit.store.postgres import Postgres as PostgresDatabase
from chatkit.store.transaction import Durability

pytestmark = [pytest.mark.anyio, pytest.mark.services]

# With these an answer takes some 4 seconds, longer than a server is away.
TOKEN_SECONDS = 0.004
AWAY_SECONDS = 1.0
PATIENCE_SECONDS = 40.0
# The harder one in every run; in good order in the slow one too.
HOW = ["kill", pytest.param("stop", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL of these tests' own, to be stopped."""
    with Postgres(fsync=True) as server:
        yield server


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """A Redis of these tests' own, which loses everything when it is stopped."""
    with Redis() as server:
        yield server


@pytest.fixture
def servers(
    own_postgres: Postgres, own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> tuple[Postgres, Redis]:
    """Use them, with an empty database and an empty log."""
    monkeypatch.setenv("CHATKIT_DATABASE_URL", own_postgres.new_database())
    monkeypatch.setenv("CHATKIT_REDIS_URL", own_redis.new_database())
    return own_postgres, own_redis


class Watching(NamedTuple):
    """An answer that is written in one process and watched in two."""

    conversation: str
    answer: str
    here: list[Seen]
    there: list[Seen]


@asynccontextmanager
async def watching(
    writer: ChatService, other: ChatService, question: str = "go"
) -> AsyncIterator[Watching]:
    """Ask, give what is seen once both have seen some, and at the end wait for the end."""
    conversation = await writer.begin(USER)
    turn = await writer.send(USER, conversation, question, SCRIPTED)
    asked_about = Watching(conversation, turn.answer, [], [])
    tasks = [
        asyncio.create_task(watch(service, conversation, turn.answer, seen))
        for service, seen in ((writer, asked_about.here), (other, asked_about.there))
    ]
    while min(len(asked_about.here), len(asked_about.there)) < 10:
        await asyncio.sleep(0.01)
    yield asked_about
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_SECONDS)


def events_of(seen: list[Seen]) -> list[Event]:
    return [one.event for one in seen]


async def away(server: Service, leave: Callable[[], None], seconds: float = AWAY_SECONDS) -> None:
    """Let a server go, and come back."""
    await asyncio.to_thread(leave)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)


async def assert_whole(service: ChatService, about: Watching, question: str = "go") -> None:
    """Everybody saw the whole answer once, and it is stored."""
    for seen in (events_of(about.here), events_of(about.there)):
        assert rises(seen) and shown(seen) == long_answer(question)
        assert [event.kind for event in seen if event.final] == ["done"]
        assert sum(event.kind == "started" for event in seen) <= 1
    node = await stored(service, about.conversation, about.answer)
    assert status_of(node) == "done" and node.message.content == long_answer(question)
    assert len(await service.store.nodes.tree(USER, about.conversation)) == 2


@pytest.mark.parametrize("how", HOW)
async def test_an_answer_outlives_a_restart_of_postgres(
    servers: tuple[Postgres, Redis], how: str
) -> None:
    postgres, _ = servers
    script = slow_script(TOKEN_SECONDS)
    async with opened(script) as writer, opened(script) as other:
        async with watching(writer, other) as about:
            await away(postgres, getattr(postgres, how), 2.0)
        await assert_whole(other, about)
        assert await asked(other, about.conversation, "next") == long_answer("next")


async def test_a_question_that_meets_a_restart_of_postgres_is_stored_once(
    servers: tuple[Postgres, Redis],
) -> None:
    postgres, _ = servers
    async with opened() as service:
        conversation = await service.begin(USER)
        restart = asyncio.create_task(away(postgres, postgres.kill))
        turns = await asyncio.gather(
            *(
                _sent_after(number / 10, service, conversation, f"question {number}")
                for number in range(15)
            )
        )
        await restart
        tree = await service.store.nodes.tree(USER, conversation)
        questions = sorted(node.message.content for node in tree if node.message.role == "user")
        assert questions == sorted(f"question {number}" for number in range(15))
        for turn in turns:
            assert (await watched(service, conversation, turn))[-1].kind == "done"


async def _sent_after(seconds: float, service: ChatService, conversation: str, text: str) -> str:
    await asyncio.sleep(seconds)
    turn = await service.send(USER, conversation, text, SCRIPTED, parent=None)
    return turn.answer


async def test_an_absence_of_postgres_makes_nobody_dead(
    servers: tuple[Postgres, Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could give a sign of life for longer than the dead are silent."""
    postgres, _ = servers
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(pulse, "SILENT_SECONDS", 1.0)
    script = slow_script(TOKEN_SECONDS)
    async with opened(script) as writer, opened(script) as other, opened(script) as third:
        async with watching(writer, other) as about:
            await away(postgres, postgres.kill, 2.5)
        await assert_whole(third, about)


@pytest.mark.parametrize("how", HOW)
async def test_everybody_sees_the_whole_answer_when_redis_restarts_and_has_lost_all(
    servers: tuple[Postgres, Redis], how: str
) -> None:
    _, redis = servers
    script = slow_script(TOKEN_SECONDS)
    async with opened(script) as writer, opened(script) as other:
        async with watching(writer, other) as about:
            await away(redis, getattr(redis, how))
            assert not events_of(about.there)[-1].final
            late = asyncio.create_task(watched(other, about.conversation, about.answer))
        await assert_whole(other, about)
        assert shown(await late) == long_answer("go") and rises(await late)


async def test_an_answer_goes_on_and_ends_while_redis_stays_away(
    servers: tuple[Postgres, Redis],
) -> None:
    _, redis = servers
    script = slow_script(0.002)
    async with opened(script) as writer, opened(script) as other:
        async with watching(writer, other) as about:
            redis.kill()
        await assert_whole(other, about)
        assert await asked(other, about.conversation, "next") == long_answer("next")
        redis.start()


@pytest.mark.parametrize("client_id", [None, "one"], ids=["unnamed", "named"])
async def test_what_postgres_stored_without_being_able_to_say_so_is_stored_once(
    servers: tuple[Postgres, Redis], monkeypatch: pytest.MonkeyPatch, client_id: str | None
) -> None:
    async with opened() as service:
        lose_every_first_acknowledgement(monkeypatch)
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "hi", SCRIPTED, client_id=client_id)
        assert (await watched(service, conversation, turn.answer))[-1].kind == "done"
        again = await service.regenerate(USER, conversation, turn.answer, SCRIPTED)
        assert (await watched(service, conversation, again.answer))[-1].kind == "done"
        edited = await service.edit(USER, conversation, turn.question, "ho", SCRIPTED)
        assert (await watched(service, conversation, edited.answer))[-1].kind == "done"
        tree = await service.store.nodes.tree(USER, conversation)
        assert [node.id for node in tree] == [*turn, again.answer, *edited]
        fork = await service.fork(USER, conversation, edited.answer)
        assert len(await service.store.nodes.tree(USER, fork)) == 2
        await service.delete(USER, conversation)
        assert [one.id for one in await service.conversations(USER)] == [fork]


def lose_every_first_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the connection break after each commit, before anybody hears of it."""
    write, lost = PostgresDatabase.write, set[object]()

    async def losing(database: PostgresDatabase, operation: Any, durability: Durability) -> Any:
        result = await write(database, operation, durability)
        if durability == "disk" and operation not in lost:
            lost.add(operation)
            raise ConnectionResetError("the connection broke")
        return result

    monkeypatch.setattr(PostgresDatabase, "write", losing)
