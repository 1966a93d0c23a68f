"""The live logs of running answers, in one process and through a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_logs import (
    PATIENCE_SECONDS,
    SEAL,
    answer,
    deltas,
    known_channels,
    opened,
    read,
    take,
    write,
)

from chatkit.errors import StoreUnavailable
from chatkit.live.event import Event, from_text, to_text
from chatkit.live.memory import MemoryLive
from chatkit.live.opening import Live

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a channel is written and where it is followed."""

    writer: Live
    reader: Live


@pytest.fixture(
    params=[
        "memory",
        pytest.param("redis", marks=pytest.mark.services),
        pytest.param("redis, two ends", marks=pytest.mark.services),
    ]
)
async def ends(request: pytest.FixtureRequest) -> AsyncIterator[Ends]:
    """The logs of one process, of one process with Redis, and of two with Redis."""
    url = None if request.param == "memory" else request.getfixturevalue("redis_url")
    async with opened(url) as writer:
        if "two" in request.param:
            async with opened(url) as reader:
                yield Ends(writer, reader)
        else:
            yield Ends(writer, writer)


async def test_a_follower_gets_every_event_in_order_and_ends_with_the_last(ends: Ends) -> None:
    following = asyncio.create_task(read(ends.reader, "c"))
    events = answer(200)
    for event in events:
        ends.writer.append("c", event, SEAL)
        if event.seq % 20 == 0:
            await asyncio.sleep(0.002)
    assert await following == events


@pytest.mark.parametrize("kind", ["done", "stopped", "interrupted", "failed"])
async def test_following_ends_after_each_kind_of_final_event(ends: Ends, kind: str) -> None:
    last = Event(2, kind)  # type: ignore[arg-type]
    await write(ends.writer, "c", [Event(1, "accepted"), last])
    assert (await read(ends.reader, "c"))[-1] == last


@pytest.mark.parametrize("after", [0, 1, 7, 11])
async def test_who_joins_late_goes_on_from_the_number_it_had(ends: Ends, after: int) -> None:
    events = answer(10)
    await write(ends.writer, "c", events)
    assert await read(ends.reader, "c", after) == events[after:]


async def test_who_already_has_the_final_event_is_told_so(ends: Ends) -> None:
    events = answer(10)
    await write(ends.writer, "c", events)
    assert await read(ends.reader, "c", after=len(events)) == []


async def test_followers_of_one_channel_have_places_of_their_own(ends: Ends) -> None:
    events = answer(40)
    async with aclosing(ends.reader.follow("c", 30, SEAL)) as late:
        first = asyncio.create_task(take(late, 1))
        await write(ends.writer, "c", events[:35])
        assert await first == events[30:31]
        early = asyncio.create_task(read(ends.reader, "c", 3))
        await asyncio.sleep(0.02)
        await write(ends.writer, "c", events[35:])
        assert await early == events[3:]
        assert await take(late, len(events) - 31) == events[31:]


async def test_a_follower_may_come_before_the_writer(ends: Ends) -> None:
    following = asyncio.create_task(read(ends.reader, "c"))
    await asyncio.sleep(0.05)
    assert not following.done()
    await write(ends.writer, "c", answer(3))
    assert await following == answer(3)


async def test_a_number_that_is_there_already_is_left_out(ends: Ends) -> None:
    await write(ends.writer, "c", deltas(1, 3))
    await write(ends.writer, "c", [*deltas(2, 3, "other"), Event(4, "done")])
    assert await read(ends.reader, "c") == [*deltas(1, 3), Event(4, "done")]


async def test_fifty_channels_at_once_do_not_mix(ends: Ends) -> None:
    channels = {f"c{number}": answer(30, f"word of {number}") for number in range(50)}
    following = {channel: asyncio.create_task(read(ends.reader, channel)) for channel in channels}
    for place in range(32):
        for channel, events in channels.items():
            ends.writer.append(channel, events[place], SEAL)
        await asyncio.sleep(0)
    for channel, events in channels.items():
        assert await following[channel] == events


async def test_a_cancelled_follower_leaves_nothing_behind(ends: Ends) -> None:
    other = asyncio.create_task(read(ends.reader, "other"))
    following = asyncio.create_task(read(ends.reader, "c"))
    await asyncio.sleep(0.02)
    following.cancel()
    await asyncio.wait([following])
    assert following.cancelled()
    assert known_channels(ends.reader) == ["other"]
    await write(ends.writer, "other", answer(1))
    assert await other == answer(1)


async def test_a_follower_that_leaves_early_leaves_nothing_behind(ends: Ends) -> None:
    following = ends.reader.follow("c", 0, SEAL)
    first = asyncio.create_task(take(following, 1))
    await asyncio.sleep(0.02)
    await write(ends.writer, "c", deltas(1, 3))
    assert await first == deltas(1, 1)
    await following.aclose()
    assert known_channels(ends.reader) == (["c"] if ends.reader is ends.writer else [])


async def test_a_dropped_channel_ends_its_followers(ends: Ends) -> None:
    following = ends.reader.follow("c", 0, SEAL)
    await write(ends.writer, "c", deltas(1, 3))
    await take(following, 3)
    waiting = asyncio.create_task(anext(following, None))
    await asyncio.sleep(0.02)
    await ends.writer.drop("c")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await waiting is None


async def test_nothing_comes_back_of_a_dropped_channel(ends: Ends) -> None:
    await write(ends.writer, "c", deltas(1, 3))
    await ends.writer.drop("c")
    await write(ends.writer, "c", [*deltas(4, 5), Event(6, "done")])
    assert known_channels(ends.writer) == []
    assert await read(ends.writer, "c") == []


async def test_a_log_is_gone_some_time_after_its_final_event() -> None:
    live = MemoryLive(retain_seconds=0)
    await write(live, "c", [*deltas(1, 3)])
    assert known_channels(live) == ["c"]
    live.append("c", Event(4, "done"), SEAL)
    assert known_channels(live) == []


async def test_closing_ends_followers_and_takes_nothing_more(ends: Ends) -> None:
    following = asyncio.create_task(read(ends.reader, "c"))
    await asyncio.sleep(0.02)
    await ends.reader.close()
    assert await following == []
    with pytest.raises(StoreUnavailable, match="closed"):
        ends.reader.append("c", Event(1, "done"), SEAL)
    with pytest.raises(StoreUnavailable, match="closed"):
        await read(ends.reader, "c")


@pytest.mark.lengthy
@given(after=st.integers(0, 12), joins=st.integers(0, 12), final=st.booleans())
def test_a_follower_gets_exactly_what_it_lacks(after: int, joins: int, final: bool) -> None:
    events = [*deltas(1, 11), Event(12, "done" if final else "delta")]

    async def follow() -> list[Event]:
        live = MemoryLive()
        await write(live, "c", events[:joins])
        following = asyncio.create_task(read(live, "c", after))
        await asyncio.sleep(0)
        await write(live, "c", events[joins:])
        if not final:
            live.append("c", Event(13, "stopped"), SEAL)
        return await following

    expected = events[after:] if final else [*events[after:], Event(13, "stopped")]
    assert asyncio.run(follow()) == expected


@pytest.mark.lengthy
@given(st.text(st.characters(codec=None)), st.dictionaries(st.text(), st.integers() | st.none()))
def test_any_text_and_facts_survive_the_way(text: str, facts: dict[str, int | None]) -> None:
    event = Event(7, "snapshot", text, facts)
    assert from_text(7, SEAL.open(SEAL.close(to_text(event), "x"), "x")) == event
