"""Writes and follows live logs, for the tests of them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from chatkit.live.event import Event
from chatkit.live.memory import MemoryLive
from chatkit.live.opening import Live, open_live
from chatkit.live.redis import RedisLive
from chatkit.sealing import KeySeal, Seal

SEAL = KeySeal(b"k" * 32)
# A broken log never ends; this is how a test of it does.
PATIENCE_SECONDS = 30


@asynccontextmanager
async def opened(url: str | None) -> AsyncIterator[Live]:
    live = open_live(url)
    await live.ready()
    try:
        yield live
    finally:
        await live.close()


async def write(live: Live, channel: str, events: list[Event], seal: Seal = SEAL) -> None:
    for event in events:
        live.append(channel, event, seal)


async def read(live: Live, channel: str, after: int = 0, seal: Seal = SEAL) -> list[Event]:
    """Follow to the end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [event async for event in live.follow(channel, after, seal)]


async def take(stream: AsyncGenerator[Event, None], count: int) -> list[Event]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [await anext(stream) for _ in range(count)]


def deltas(first: int, last: int, word: str = "word") -> list[Event]:
    return [Event(seq, "delta", f"{word} {seq} ") for seq in range(first, last + 1)]


def answer(deltas_: int, word: str = "word") -> list[Event]:
    """Give a whole answer: started, so many deltas, done."""
    last = deltas_ + 2
    done = Event(last, "done", facts={"finish": "stop", "tokens": deltas_})
    return [Event(1, "started"), *deltas(2, last - 1, word), done]


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


def known_channels(live: Live) -> list[str]:
    assert isinstance(live, MemoryLive | RedisLive)
    return sorted(live._logs._logs)
