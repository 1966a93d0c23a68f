"""Follows answers, in the process that writes them or in one of its own.

python -m benchmarks.stream_follower FOLDER DATABASE REDIS     reads places, writes what it saw
"""

import asyncio
import gc
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving import on_sqlite, opened
from chatkit.chat import ChatService

Place = tuple[str, str, str]


class Seen(NamedTuple):
    """What one follower saw of one answer.

    Args:
        text: the whole text.
        pieces: from which to which character, and when, by the clock that processes share.
        broken: whether an event came out of order.
        since: when it began to watch; what came before is not late.
    """

    text: str
    pieces: list[tuple[int, int, float]]
    broken: bool
    since: float


async def follow(service: ChatService, place: Place) -> Seen:
    """Watch an answer to its end."""
    text, last, broken, since = "", 0, False, time.monotonic()
    pieces: list[tuple[int, int, float]] = []
    async for event in service.subscribe(*place):
        now = time.monotonic()
        broken = broken or event.seq <= last
        last = event.seq
        if event.kind == "delta":
            pieces.append((len(text), len(text) + len(event.text), now))
            text += event.text
        elif event.kind == "snapshot":
            text = event.text
    return Seen(text, pieces, broken, since)


async def main(folder: str, database: str, redis: str) -> None:
    """Follow what stdin names, and write what was seen and the processor's seconds."""
    where = replace(on_sqlite(Path(folder)), database=database, redis=redis)
    async with opened(where) as service:
        gc.collect()
        gc.freeze()
        print("ready", flush=True)
        began = time.process_time()
        following: list[asyncio.Task[Seen]] = []
        while line := await asyncio.to_thread(sys.stdin.readline):
            following.append(asyncio.create_task(follow(service, tuple(json.loads(line)))))
        seen = await asyncio.gather(*following)
        seconds = time.process_time() - began
    json.dump([seen, seconds], sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
