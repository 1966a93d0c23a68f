"""How fast an engine answers, one at a time and several at once, and what a token costs."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from chatkit.engine import Engine
from chatkit.errors import InputError
from chatkit.messages import user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

SUBJECTS = ("tides", "bread", "chess", "volcanoes", "bees", "jazz", "glass", "maps", "tea", "rain")
# Where Linux tells the energy that the processors took, in millionths of a joule.
_ENERGY = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured with so many answers at once.

    Args:
        model: who answered.
        streams: how many at once.
        answers: how many in all.
        first_token_seconds: the median wait for the first text.
        between_tokens_seconds: the median time from token to token.
        tokens_per_second: of all answers together.
        memory: bytes that the engine holds, as it estimates.
        joules_per_token: None where the machine does not tell.
    """

    model: str
    streams: int
    answers: int
    first_token_seconds: float
    between_tokens_seconds: float
    tokens_per_second: float
    memory: int
    joules_per_token: float | None

    def cost(self, price: float) -> float:
        """Tell what a million tokens cost.

        Args:
            price: of the machine, for an hour, in any currency.
        """
        return price / (self.tokens_per_second * 3_600) * 1e6


async def measure_speed(
    model: str, engine: Engine, streams: Sequence[int], *, tokens: int = 64, rounds: int = 3
) -> list[Speed]:
    """Measure an engine at several numbers of answers at once.

    Args:
        model: the name that it is told by.
        engine: who answers.
        streams: how many at once, one after the other.
        tokens: of each answer, at most.
        rounds: how often each stream asks.

    Raises:
        InputError: a number is not positive.
    """
    if not streams or min(streams) < 1 or tokens < 2 or rounds < 1:
        raise InputError("Speed needs streams and rounds of 1 or more, and answers of 2 tokens.")
    await _answer(engine, 0, tokens)
    return [await _measure(model, engine, count, tokens, rounds) for count in streams]


async def _measure(model: str, engine: Engine, streams: int, tokens: int, rounds: int) -> Speed:
    async def asks(stream: int) -> list["_Times"]:
        return [await _answer(engine, stream + n * streams, tokens) for n in range(rounds)]

    energy, began = _energy(), time.perf_counter()
    per_stream = await asyncio.gather(*map(asks, range(streams)))
    seconds, spent = time.perf_counter() - began, _energy()
    times = [each for stream in per_stream for each in stream]
    written = sum(each.tokens for each in times)
    return Speed(
        model,
        streams,
        len(times),
        median(each.first for each in times),
        median((each.total - each.first) / max(1, each.tokens - 1) for each in times),
        written / seconds,
        engine.resident_bytes,
        None if energy is None or spent is None or spent < energy else (spent - energy) / written,
    )


@dataclass(frozen=True, slots=True)
class _Times:
    tokens: int
    first: float
    total: float


async def _answer(engine: Engine, number: int, tokens: int) -> _Times:
    subject = SUBJECTS[number % len(SUBJECTS)]
    # The number keeps one answer from sharing another's cache.
    asked = f"Chapter {number + 1}: explain {subject} to a friend, at length."
    prompt = build_prompt(engine.template, [user(asked)])
    sampling = Sampling(temperature=0, max_tokens=tokens)
    began, first, written = time.perf_counter(), 0.0, 0
    async for delta in engine.stream(prompt, sampling):
        if delta.text and not first:
            first = time.perf_counter() - began
        if delta.usage:
            written = delta.usage.completion_tokens
    total = time.perf_counter() - began
    return _Times(written, first or total, total)


def _energy() -> float | None:
    """Read the joules that the processors took so far; None where the machine does not tell."""
    try:
        return int(_ENERGY.read_text()) / 1e6
    except (OSError, ValueError):
        return None
