"""The common design beside ours: the whole history as one JSON value in Redis, rewritten."""

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.filling import fill, talk
from benchmarks.serving import Redis, on_sqlite, opened

LENGTHS = (10, 100, 1_000, 10_000)
TURNS = 30


async def rewriting() -> list[str]:
    """Compare a turn of two messages: bytes written and milliseconds, as conversations grow."""
    import redis.asyncio as redis

    lines: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="chatkit-bench-") as folder,
        Redis(appendonly=True) as server,
    ):
        client = redis.Redis.from_url(server.new_database())
        async with opened(on_sqlite(Path(folder))) as service:
            for length in LENGTHS:
                (place,) = await fill(service, 1, length)
                await client.set("history", json.dumps(_messages(length)))
                ours, theirs = [], []
                for _ in range(TURNS):
                    ours.append(await _our_turn(service, place))
                    theirs.append(await _their_turn(client))
                lines.append(_line(length, ours, theirs))
        await client.aclose()
    return lines


def _messages(count: int) -> list[dict[str, str]]:
    return [{"role": node.message.role, "content": node.message.content} for node in talk(count)]


async def _our_turn(service: Any, place: tuple[str, str]) -> tuple[float, float]:
    """Read what the model is shown, and add a question and its answer, each on disk."""
    who, conversation = place
    store = service.store
    before, began = _written(), time.perf_counter()
    record = await store.conversations.find(who, conversation)
    path = await store.nodes.path(who, conversation, record.head, 30)
    parent = path[-1].id
    for node in talk(2):
        new = replace(node, parent=parent)
        await store.nodes.add(who, conversation, [new], head=new.id)
        parent = node.id
    return (time.perf_counter() - began) * 1000, _written() - before


async def _their_turn(client: Any) -> tuple[float, float]:
    """Read the whole history, add the question and write it; the same with the answer."""
    written, began = 0, time.perf_counter()
    for message in _messages(2):
        history = json.loads(await client.get("history"))
        value = json.dumps([*history, message])
        await client.set("history", value)
        written += len(value)
    return (time.perf_counter() - began) * 1000, written


def _written() -> int:
    """Count the bytes that this process has written so far, to files above all."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def _line(length: int, ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> str:
    def figures(turns: list[tuple[float, float]]) -> str:
        milliseconds, written = (median(values) for values in zip(*turns, strict=True))
        return f"{milliseconds:.1f} ms and {written / 1024:,.0f} KiB written"

    return (
        f"a turn after {length:,} messages: {figures(ours)}; "
        f"as one JSON value in Redis {figures(theirs)}"
    )
