"""Clients that vanish or come late, engines that fail, and clocks that jump."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_service import (
    SCRIPTED,
    USER,
    asked,
    long_answer,
    opened,
    rises,
    shown,
    slow_script,
    status_of,
    stored,
    watched,
)

from chatkit.answering import pulse
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.live.event import Event
from chatkit.store.answers import Answers, Growth
from chatkit.store.conversations import Cursor
from chatkit.store.records import ConversationSettings

pytestmark = pytest.mark.anyio

DAY_SECONDS = 86_400.0


@pytest.mark.lengthy
async def test_an_answer_goes_on_when_its_client_vanishes() -> None:
    script = slow_script(0.001)
    async with opened(script) as service:
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "go", SCRIPTED)
        watching = asyncio.create_task(anext(service.subscribe(USER, conversation, turn.answer)))
        assert (await watching).seq == 1
        while status_of(node := await stored(service, conversation, turn.answer)) != "done":
            await asyncio.sleep(0.05)
        assert node.message.content == long_answer("go")


@pytest.mark.lengthy
async def test_an_answer_that_nobody_watches_stops_after_the_grace_time() -> None:
    async with opened(slow_script(), unwatched_seconds=0.5) as service:
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "go", SCRIPTED)
        subscription = service.subscribe(USER, conversation, turn.answer)
        seen = [await anext(subscription) for _ in range(10)]
        await subscription.aclose()
        assert status_of(await stored(service, conversation, turn.answer)) != "stopped"
        while status_of(node := await stored(service, conversation, turn.answer)) != "stopped":
            await asyncio.sleep(0.05)
        assert node.message.content.startswith(shown(seen))
        assert long_answer("go").startswith(node.message.content)


@pytest.mark.lengthy
async def test_an_answer_that_is_watched_again_in_time_goes_on() -> None:
    async with opened(slow_script(0.002), unwatched_seconds=0.6) as service:
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "go", SCRIPTED)
        seen: list[Event] = []
        while not seen or not seen[-1].final:
            subscription = service.subscribe(
                USER, conversation, turn.answer, seen[-1].seq if seen else 0
            )
            seen += [event async for event in _first(subscription, 40)]
            await asyncio.sleep(0.1)
        assert seen[-1].kind == "done" and rises(seen) and shown(seen) == long_answer("go")


@pytest.mark.lengthy
@pytest.mark.parametrize("tokens", [0, 10])
async def test_an_engine_that_fails_ends_that_answer_only(tokens: int) -> None:
    script = Script(answer=long_answer, fail_after=tokens)
    engine = ScriptedEngine(script)
    async with opened(engine) as service:
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "go", SCRIPTED)
        events = await watched(service, conversation, turn.answer)
        assert events[-1].kind == "failed" and f"failed after {tokens} tokens" in events[-1].text
        node = await stored(service, conversation, turn.answer)
        assert node.message.content == shown(events) == long_answer("go")[:tokens]
        assert node.facts is not None and node.facts.error is not None
        assert node.facts.error == ("EngineError", events[-1].text)
        late = await watched(service, conversation, turn.answer)
        assert shown(late) == shown(events) and late[-1].text == events[-1].text
        engine.script = Script(answer=long_answer)
        assert await asked(service, conversation, "next") == long_answer("next")
        again = await service.regenerate(USER, conversation, turn.answer, SCRIPTED)
        assert shown(await watched(service, conversation, again.answer)) == long_answer("go")


@pytest.mark.lengthy
async def test_a_failure_that_nobody_foresaw_stops_no_storing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flush, failures = Answers.flush, [RuntimeError("a bug"), RuntimeError("a bug")]

    async def failing(answers: Answers, worker: str, grown: Sequence[Growth]) -> frozenset[str]:
        if grown and failures:
            raise failures.pop()
        return await flush(answers, worker, grown)

    monkeypatch.setattr(Answers, "flush", failing)
    async with opened(slow_script()) as service:
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "go", SCRIPTED)
        while not (node := await stored(service, conversation, turn.answer)).message.content:
            await asyncio.sleep(0.05)
        assert status_of(node) == "running" and not failures


@pytest.mark.lengthy
async def test_a_clock_that_jumps_back_a_day_puts_nothing_out_of_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened() as service:
        first, second = [await service.begin(USER, title=name) for name in ("first", "second")]
        for conversation in (first, second):
            await asked(service, conversation, "before")
        _set_back(monkeypatch, DAY_SECONDS)
        for conversation in (first, second):
            await asked(service, conversation, "after")
            page = await service.page(USER, conversation)
            said = [message.node.message.content for message in page.messages]
            assert said == ["before", "You said: before", "after", "You said: after"]
        tree = await service.store.nodes.tree(USER, first)
        assert [node.number for node in tree] == sorted(node.number for node in tree)
        siblings = await service.regenerate(USER, first, tree[1].id, SCRIPTED)
        await watched(service, first, siblings.answer)
        found = await service.store.nodes.siblings(USER, first, {tree[0].id})
        assert found[tree[0].id] == (tree[1].id, siblings.answer)


@pytest.mark.lengthy
async def test_a_clock_that_jumps_back_leaves_no_conversation_out_of_the_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened() as service:
        ids = [await service.begin(USER, title=str(number)) for number in range(4)]
        for id in ids:
            await asked(service, id, "before")
        _set_back(monkeypatch, DAY_SECONDS)
        ids.append(await service.begin(USER, title="after"))
        await asked(service, ids[0], "after")
        first = await service.conversations(USER, 3)
        await asked(service, ids[-1], "after")
        rest = await service.conversations(USER, 3, Cursor(first[-1].updated, first[-1].id))
        assert [record.id for record in (*first, *rest)] == [
            ids[number] for number in (3, 2, 1, 0, 4)
        ]


@pytest.mark.lengthy
async def test_a_clock_that_jumped_back_for_a_while_lets_nothing_expire_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened() as service:
        await service.set_retention(USER, 0.5)
        conversation = await service.begin(USER)
        await asked(service, conversation, "before")
        with monkeypatch.context() as meanwhile:
            _set_back(meanwhile, DAY_SECONDS)
            await asked(service, conversation, "during")
        assert not await service.store.erasure.expire(None, time.time())
        assert len((await service.page(USER, conversation)).messages) == 4


@pytest.mark.lengthy
async def test_a_clock_that_jumps_back_makes_nothing_expire_and_nobody_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(pulse, "SILENT_SECONDS", 0.4)
    script = slow_script(0.002)
    async with opened(script) as service, opened(script) as other:
        await service.set_retention(USER, 0.5)
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "go", SCRIPTED)
        _set_back(monkeypatch, DAY_SECONDS)
        events = await watched(other, conversation, turn.answer)
        assert events[-1].kind == "done" and shown(events) == long_answer("go")
        assert not await service.store.erasure.expire(None, time.time())
        assert (await service.conversation(USER, conversation)).id == conversation


@pytest.mark.lengthy
async def test_an_hour_and_a_day_later_the_history_is_still_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened() as service:
        conversation = await service.begin(USER, ConversationSettings("Be brief."))
        await asked(service, conversation, "before")
        _set_back(monkeypatch, -DAY_SECONDS)
        assert not await service.store.erasure.expire(None, time.time())
        await asked(service, conversation, "after")
        assert len((await service.page(USER, conversation)).messages) == 4


@pytest.mark.lengthy
@given(joins=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12))
@settings(max_examples=8)
async def test_whoever_joins_anywhere_sees_exactly_what_it_lacks(
    joins: list[tuple[int, int]],
) -> None:
    """Each joins when event `first` has come, knowing the first `second` of them at most."""
    script = Script(answer=lambda _: "word " * 20, token_seconds=0.004)
    async with opened(script) as service:
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "go", SCRIPTED)
        waiting, heard = sorted(joins), list[Event]()
        late: list[tuple[int, asyncio.Task[list[Event]]]] = []
        async for event in service.subscribe(USER, conversation, turn.answer):
            heard.append(event)
            while waiting and (event.seq >= waiting[0][0] or event.final):
                known = min(waiting.pop(0)[1], event.seq)
                joining = watched(service, conversation, turn.answer, known)
                late.append((known, asyncio.create_task(joining)))
        for known, joining_task in late:
            _assert_exactly(await joining_task, heard, known)


def _assert_exactly(events: list[Event], heard: list[Event], known: int) -> None:
    """What came late is the rest, or the whole text once where the answer was over already."""
    assert rises(events) and all(event.seq > known for event in events)
    if any(event.kind == "snapshot" for event in events):
        assert shown(events) == shown(heard) and events[-1].seq == heard[-1].seq
    else:
        assert [(event.seq, event.kind, event.text) for event in events] == [
            (event.seq, event.kind, event.text) for event in heard[known:]
        ]


def _set_back(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - seconds)


async def _first(
    subscription: AsyncGenerator[Event, None], count: int
) -> AsyncGenerator[Event, None]:
    """Give the first so many events, and vanish."""
    async with aclosing(subscription) as events:
        async for event in events:
            yield event
            count -= 1
            if not count:
                return
