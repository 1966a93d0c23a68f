"""A hundred conversations that stream at once: what is lost, how late each token is, its cost."""

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.serving import SCRIPTED, Postgres, Redis, on_sqlite, opened, percentile
from benchmarks.stream_follower import Place, Seen, follow
from chatkit.chat import ChatService
from chatkit.engine import Delta
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.settings import Settings

CONVERSATIONS = 100
TOKENS_PER_SECOND = 50
TOKENS = 500
USER = "ada"
QUESTIONS = [f"question {number}" for number in range(CONVERSATIONS)]


def run() -> Iterator[str]:
    """Print figures for SQLite, and for PostgreSQL with Redis and a second process."""
    with tempfile.TemporaryDirectory(prefix="chatkit-bench-") as folder:
        figures = asyncio.run(_in_one_process(on_sqlite(Path(folder))))
        yield f"SQLite, both followers in the process: {figures}"
    with (
        Postgres(fsync=True) as postgres,
        Redis() as redis,
        tempfile.TemporaryDirectory(prefix="chatkit-bench-") as folder,
    ):
        where = replace(
            on_sqlite(Path(folder)), database=postgres.new_database(), redis=redis.new_database()
        )
        figures = asyncio.run(_in_two_processes(where))
        yield f"PostgreSQL and Redis, one follower in another process: {figures}"


class Stamped(ScriptedEngine):
    """Notes when it gives each token of each answer."""

    def __init__(self) -> None:
        pause = 1 / TOKENS_PER_SECOND
        super().__init__(
            Script(answer=_answer, token_seconds=pause, slots=CONVERSATIONS, context=8_192)
        )
        self.given: dict[str, list[float]] = {}

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Stream as scripted; a token is one character."""
        times = self.given.setdefault(prompt.messages[-1].content, [])
        async with aclosing(super().stream(prompt, sampling, adapter)) as deltas:
            async for delta in deltas:
                times += [time.monotonic()] * len(delta.text)
                yield delta


class _Watched(NamedTuple):
    """One answer, and what each of those saw who watched it in this process."""

    text: str
    seen: list[Seen]


async def _in_one_process(where: Settings) -> str:
    engine = Stamped()
    async with opened(where, engine) as service, _measured() as cost:
        watched = await asyncio.gather(*(_watched(service, one, 2) for one in QUESTIONS))
    pairs = [(one, seen) for one in watched for seen in one.seen]
    return _figures(engine, pairs, cost)


async def _in_two_processes(where: Settings) -> str:
    engine = Stamped()
    async with opened(where, engine) as service, _Elsewhere(where) as other:
        async with _measured() as cost:
            watched = await asyncio.gather(*(_watched(service, one, 1, other) for one in QUESTIONS))
        theirs, seconds = await other.seen()
    pairs = [(one, one.seen[0]) for one in watched]
    # The other process was told of answers in the order in which they began.
    by_text = {one.text: one for one in watched}
    pairs += [(by_text.get(seen.text, watched[0]), seen) for seen in theirs]
    there = f", {seconds / (CONVERSATIONS * TOKENS) * 1e6:.0f} µs in the other process"
    return _figures(engine, pairs, cost) + there


@asynccontextmanager
async def _measured() -> AsyncIterator[list[float]]:
    """Give seconds of the clock and of the processor, when it is over."""
    gc.collect()
    gc.freeze()
    cost: list[float] = []
    began, processor = time.perf_counter(), time.process_time()
    yield cost
    cost += [time.perf_counter() - began, time.process_time() - processor]
    gc.unfreeze()


async def _watched(
    service: ChatService, question: str, followers: int, other: "_Elsewhere | None" = None
) -> _Watched:
    """Ask, watch the answer to its end, and read what was stored."""
    conversation = await service.begin(USER)
    turn = await service.send(USER, conversation, question, SCRIPTED)
    place = (USER, conversation, turn.answer)
    if other is not None:
        other.watch(place)
    seen = await asyncio.gather(*(follow(service, place) for _ in range(followers)))
    stored = await service.store.nodes.find(*place)
    assert stored.message.content == _answer(question), "the store has another text"
    return _Watched(stored.message.content, seen)


class _Elsewhere:
    """A process of its own that watches answers."""

    def __init__(self, where: Settings) -> None:
        self._where = where

    async def __aenter__(self) -> "_Elsewhere":
        where, pipe = self._where, asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "benchmarks.stream_follower"]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            str(where.data),
            where.database,
            str(where.redis),
            stdin=pipe,
            stdout=pipe,
            limit=2**26,
        )
        assert self._process.stdin and self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout
        assert await self._output.readline() == b"ready\n"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    def watch(self, place: Place) -> None:
        """Let it watch one more answer."""
        self._input.write(json.dumps(place).encode() + b"\n")

    async def seen(self) -> tuple[list[Seen], float]:
        """Wait until it has seen everything; give that, and the processor's seconds."""
        self._input.close()
        answers, seconds = json.loads(await self._output.read())
        await self._process.wait()
        return [Seen(*answer) for answer in answers], seconds


def _figures(engine: Stamped, pairs: list[tuple[_Watched, Seen]], cost: list[float]) -> str:
    took, processor = cost
    wrong = sum(seen.text != one.text for one, seen in pairs)
    broken = sum(seen.broken for _, seen in pairs)
    late = [seconds for one, seen in pairs for seconds in _lateness(engine, one.text, seen)]
    tokens = CONVERSATIONS * TOKENS
    return (
        f"{len(pairs)} followers, {tokens / took:,.0f} tokens a second, {wrong} texts with "
        f"something lost or repeated, {broken} out of order; added latency of {len(late):,} "
        f"tokens: median {median(late) * 1000:.0f} ms, p99 {percentile(late, 0.99) * 1000:.0f} ms "
        f"(target 50); processor {processor / tokens * 1e6:.0f} µs a token"
    )


def _lateness(engine: Stamped, text: str, seen: Seen) -> Iterator[float]:
    """Give how long after the engine each token was there, of those given while one watched."""
    given = engine.given[text.split(":")[0]]
    for begin, end, at in seen.pieces:
        yield from (at - given[place] for place in range(begin, end) if given[place] > seen.since)


def _answer(question: str) -> str:
    words = " ".join(f"word{number}" for number in range(TOKENS))
    return f"{question}: {words}"[:TOKENS]
