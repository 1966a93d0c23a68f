"""A store of a million messages: appending, opening and searching, beside a history in Redis."""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.filling import fill, talk
from benchmarks.history import rewriting
from benchmarks.serving import on_sqlite, opened, percentile
from chatkit.chat import ChatService

SMALL, LARGE = 200, 20_000
LENGTH, LONG = 50, 10_000
REPEATS = 1_000
SEARCHES = 15

Place = tuple[str, str]


def run() -> Iterator[str]:
    """Print milliseconds for a small and a large store, measured in turn, and the peer's."""
    with tempfile.TemporaryDirectory(prefix="chatkit-bench-") as folder:
        yield from asyncio.run(_stores(Path(folder)))
    yield from asyncio.run(rewriting())


async def _stores(folder: Path) -> list[str]:
    async with AsyncExitStack() as stack:
        stores: list[_Filled] = []
        lines: list[str] = []
        for conversations in (SMALL, LARGE):
            service = await stack.enter_async_context(
                opened(on_sqlite(folder / str(conversations)))
            )
            began = time.perf_counter()
            places = await fill(service, conversations, LENGTH)
            seconds = time.perf_counter() - began
            stores.append(_Filled(service, places, (await fill(service, 1, LONG))[0]))
            lines.append(
                f"{conversations * LENGTH:,} messages in {conversations:,} conversations stored "
                f"in {seconds:.0f} s, and one conversation of {LONG:,}"
            )
        small, large = stores
        for what in (_append, _append_long, _open, _open_long):
            lines.append(await _compared(what, small, large))
        lines += [line async for line in _searches(small)]
        return lines


class _Filled:
    """A store that is full, and where its conversations are."""

    def __init__(self, service: ChatService, places: list[Place], long: Place) -> None:
        self.service = service
        self.places = places
        self.long = long
        self.began = 0.0

    async def append(self, place: Place) -> None:
        """Add one message at the end of a conversation."""
        who, conversation = place
        store = self.service.store
        head = (await store.conversations.find(who, conversation)).head
        node = replace(talk(1)[0], parent=head)
        self.began = time.perf_counter()
        await store.nodes.add(who, conversation, [node], head=node.id)

    async def open(self, place: Place) -> None:
        """Give the last 30 messages as a screen shows them."""
        who, conversation = place
        self.began = time.perf_counter()
        page = await self.service.page(who, conversation)
        assert len(page.messages) == 30


async def _append(store: _Filled) -> None:
    """append of one message to any conversation"""
    await store.append(random.choice(store.places))


async def _append_long(store: _Filled) -> None:
    """append of one message to the conversation of 10,000"""
    await store.append(store.long)


async def _open(store: _Filled) -> None:
    """open of the last 30 messages of any conversation"""
    await store.open(random.choice(store.places))


async def _open_long(store: _Filled) -> None:
    """open of the last 30 messages of the conversation of 10,000"""
    await store.open(store.long)


async def _compared(
    what: Callable[[_Filled], Awaitable[None]], small: _Filled, large: _Filled
) -> str:
    """Do something to both stores in turn, so that noise falls on both."""
    times: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(REPEATS):
        for index, store in enumerate((small, large)):
            await what(store)
            times[index].append((time.perf_counter() - store.began) * 1000)
    figures = [(median(times[i]), percentile(times[i], 0.99)) for i in (0, 1)]
    (small_median, small_99), (large_median, large_99) = figures
    return (
        f"{what.__doc__}: median {large_median:.1f} ms, p99 {large_99:.1f} ms with a million "
        f"messages; {small_median:.1f} and {small_99:.1f} ms with ten thousand: "
        f"{large_median / small_median:.2f}x"
    )


async def _searches(store: _Filled) -> AsyncIterator[str]:
    """Search the 10,000 messages of one person, everything sealed."""
    who, _ = store.long
    for query in ("shorter way", "lighthouse"):
        times = []
        for _ in range(SEARCHES):
            began = time.perf_counter()
            hits = await store.service.search(who, query)
            times.append((time.perf_counter() - began) * 1000)
        yield (
            f"search for {query!r} in 10,000 sealed messages, {len(hits)} shown: "
            f"median {median(times):.0f} ms, slowest {max(times):.0f} ms (target 300)"
        )
