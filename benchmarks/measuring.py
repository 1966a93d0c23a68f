"""What the benchmarks share: the model, the questions, and one way to time an answer."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from chatkit.engine import Engine
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling

MODEL = "smollm2-135m"
REPEATS = 7
TOKENS = 64
QUESTIONS = (
    "Explain how a rainbow forms.",
    "Write a short story about a lighthouse.",
    "Give me a recipe for pancakes.",
)


class Timing(NamedTuple):
    """Seconds to the first text, and tokens per second after it."""

    first: float
    speed: float


def greedy(tokens: int = TOKENS) -> Sampling:
    """The sampling of all benchmarks: the likeliest token, always."""
    return Sampling(temperature=0, max_tokens=tokens)


async def time_engine(engine: Engine, prompt: Prompt, tokens: int = TOKENS) -> Timing:
    """Time one answer through an engine of ours."""
    began = time.perf_counter()
    first, count = 0.0, 0
    async for delta in engine.stream(prompt, greedy(tokens)):
        if delta.text and not first:
            first = time.perf_counter() - began
        if delta.usage:
            count = delta.usage.completion_tokens
    return _timing(first, time.perf_counter() - began, count)


def time_raw(server: Any, ids: tuple[int, ...], tokens: int = TOKENS) -> Timing:
    """Time one answer of llama.cpp's server, asked directly with the same token ids."""
    began = time.perf_counter()
    first, count = 0.0, 0

    def hear(chunk: dict[str, Any]) -> bool:
        nonlocal first, count
        if chunk["choices"][0]["text"] and not first:
            first = time.perf_counter() - began
        if "usage" in chunk:
            count = chunk["usage"]["completion_tokens"]
        return False

    request = {"prompt": list(ids), "n_predict": tokens, "temperature": 0, "stream": True}
    server.handle_completions(request, hear)
    return _timing(first, time.perf_counter() - began, count)


def medians(timings: list[Timing]) -> Timing:
    """Give the median of each figure."""
    return Timing(median(t.first for t in timings), median(t.speed for t in timings))


def repeated(measure: Callable[[], float], repeats: int = REPEATS) -> float:
    """Measure several times and give the median."""
    return median(measure() for _ in range(repeats))


def _timing(first: float, total: float, count: int) -> Timing:
    return Timing(first, (count - 1) / (total - first))
