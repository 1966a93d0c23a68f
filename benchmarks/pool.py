"""A pool when one of three servers is killed under load, and where it sends conversations."""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
import yaml

from benchmarks.measuring import MODEL
from benchmarks.wire import process, serving
from chatkit.background import wait_for
from chatkit.engine import Engine, complete
from chatkit.engines.opening import open_engine
from chatkit.errors import EngineError
from chatkit.messages import Message, assistant, user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

SERVERS = 3
PEOPLE = 48
LETTERS = 50
LOAD_SECONDS = 15
KILL_AFTER = 6
TURNS = 10
CONVERSATIONS = 3


def killed() -> Iterator[str]:
    """Kill one of three servers under load; count what was lost and how soon it was made up."""
    with ExitStack() as stack:
        command = [sys.executable, "-m", "benchmarks.scripted_server", "0.02", "64", str(LETTERS)]
        servers = [stack.enter_context(process(command)) for _ in range(SERVERS)]
        names = [f"openai:http://127.0.0.1:{port}/scripted:#scripted:" for port, _ in servers]
        pool = stack.enter_context(_pool(names))
        load = wait_for(_load(pool, servers[0][1]))
    rates = [load.ended[second] for second in range(1, LOAD_SECONDS - 1)]
    before = median(rates[: KILL_AFTER - 1])
    later = range(KILL_AFTER, LOAD_SECONDS - 1)
    back = next((second for second in later if load.ended[second] >= 0.95 * before), None)
    yield (
        f"{load.answered + load.interrupted} requests, {PEOPLE} at once, one of {SERVERS} servers "
        f"killed after {KILL_AFTER} s: {load.lost} that had not begun lost (target 0), "
        f"{load.interrupted} that had begun told as failed, {load.kept} of them with the text that "
        f"came; {before:.0f} answers a second before, back "
        + (f"within {back - KILL_AFTER + 1} s (target 5)" if back is not None else "not at all")
    )


@dataclass
class _Seen:
    """What people saw.

    Args:
        answered: whole answers.
        interrupted: answers that failed after they had begun.
        kept: those of them whose text was there.
        lost: requests that failed before they had begun.
        ended: whole answers by the second in which they ended.
    """

    answered: int = 0
    interrupted: int = 0
    kept: int = 0
    lost: int = 0
    ended: Counter[int] = field(default_factory=Counter)


async def _load(pool: Engine, victim: psutil.Process) -> _Seen:
    seen, began = _Seen(), time.monotonic()

    async def person(number: int) -> None:
        asked = 0
        while time.monotonic() - began < LOAD_SECONDS:
            asked += 1
            await _ask(pool, f"{number} asks for the {asked}. time", seen, began)

    async def kill() -> None:
        await asyncio.sleep(KILL_AFTER)
        victim.kill()

    await asyncio.gather(kill(), *(person(number) for number in range(PEOPLE)))
    return seen


async def _ask(pool: Engine, text: str, seen: _Seen, began: float) -> None:
    heard = ""
    try:
        prompt = build_prompt(pool.template, [user(text)])
        async for delta in pool.stream(prompt, Sampling(max_tokens=LETTERS + 1)):
            heard += delta.text
    except EngineError:
        if heard:
            seen.interrupted += 1
            seen.kept += "All work and no play makes a long answer. ".startswith(heard[:42])
        else:
            seen.lost += 1
        return
    seen.answered += 1
    seen.ended[int(time.monotonic() - began)] += 1


def affinity() -> Iterator[str]:
    """Compare the first token of turn 10: one server, the pool of three, and three in turn."""
    with ExitStack() as stack:
        ports = [stack.enter_context(serving("--model", MODEL)) for _ in range(SERVERS)]
        names = [f"openai:http://127.0.0.1:{port}/{MODEL}#{MODEL}" for port in ports]
        single = open_engine(names[0])
        others = [open_engine(name) for name in names[1:]]
        pool = stack.enter_context(_pool(names))
        figures: dict[str, list[float]] = {}
        for number in range(CONVERSATIONS):
            # Each way has conversations of its own, of which nothing was read before.
            for way, engines in (
                ("single", [single]),
                ("pool", [pool]),
                ("round-robin", [single, *others]),
            ):
                first = wait_for(_talk(engines, f"You are guide {number} for {way}."))
                figures.setdefault(way, []).append(first)
        for engine in (single, *others):
            wait_for(engine.close())
    one, several, turns = (median(figures[way]) for way in ("single", "pool", "round-robin"))
    yield (
        f"first token of turn {TURNS}: one server {one * 1000:.0f} ms, the pool of {SERVERS} "
        f"{several * 1000:.0f} ms, {several / one:.2f}x (target 1.2); round-robin "
        f"{turns * 1000:.0f} ms, {turns / one:.2f}x"
    )


async def _talk(engines: list[Engine], system: str) -> float:
    """Hold a conversation, a turn on each engine after the other; give turn 10's first token."""
    said: list[Message] = [Message("system", system)]
    first = 0.0
    for turn in range(1, TURNS + 1):
        engine = engines[turn % len(engines)]
        said.append(user(f"Tell me something new about the sea, number {turn}."))
        prompt = build_prompt(engine.template, said)
        text, last = await complete(engine, prompt, Sampling(temperature=0, max_tokens=48))
        assert last.usage is not None
        first = last.usage.first_token_seconds
        said.append(assistant(text))
    return first


@contextmanager
def _pool(names: list[str]) -> Iterator[Engine]:
    """Open a pool of servers for as long as the block lasts."""
    servers = [{"name": f"server-{place}", "model": name} for place, name in enumerate(names)]
    with tempfile.TemporaryDirectory(prefix="chatkit-bench-") as folder:
        path = Path(folder) / "pool.yaml"
        path.write_text(yaml.safe_dump({"name": "bench", "servers": servers}))
        engine = open_engine(f"pool:{path}")
        try:
            yield engine
        finally:
            wait_for(engine.close())
