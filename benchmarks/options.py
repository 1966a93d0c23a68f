"""What the embedded engine's options pay: speculation, and the kind of its cache."""

import asyncio
from collections.abc import Iterator, Sequence
from statistics import median

import psutil

from benchmarks.measuring import MODEL, Timing, greedy, time_engine
from chatkit.engine import Engine, complete
from chatkit.engines.llamacpp_server import EmbeddedOptions
from chatkit.engines.opening import LoadOptions, open_engine
from chatkit.messages import Message, user
from chatkit.prompt import Prompt, build_prompt

CODE = """def total_price(items, tax_rate):
    total = 0
    for item in items:
        price = item["price"] * item["quantity"]
        if item["discount"] > 0:
            price = price - price * item["discount"]
        total = total + price
    return total + total * tax_rate
"""
SUBJECTS = ("tides", "bread", "chess", "volcanoes", "bees", "jazz", "glass", "maps", "tea")
# Each is asked once: what was written before is remembered by speculation across requests.
WORKLOADS: dict[str, list[list[Message]]] = {
    "answers for the first time": [[user(f"Explain {subject}.")] for subject in SUBJECTS],
    "code written again": [
        [user(f"Repeat this code exactly:\n\n{CODE.replace('price', word)}")]
        for word in ("cost", "amount", "fee", "charge")
    ],
    "the same question again": [[user(f"Explain {subject}.")] for subject in SUBJECTS],
}
CHOICES = {
    "as it is": EmbeddedOptions(),
    "speculation": EmbeddedOptions(speculate=True),
    "8-bit cache": EmbeddedOptions(kv_cache="q8_0"),
}


def run() -> Iterator[str]:
    """Print tokens/s, memory and equal answers of each option beside the engine as it is."""
    yield from asyncio.run(_compare())


async def _compare() -> list[str]:
    engines, memory = {}, {}
    for name, options in CHOICES.items():
        before = psutil.Process().memory_info().rss
        engines[name] = _opened(options)
        memory[name] = psutil.Process().memory_info().rss - before
    lines: list[str] = []
    for title, conversations in WORKLOADS.items():
        prompts = [build_prompt(engines["as it is"].template, said) for said in conversations]
        lines += await _of_workload(title, prompts, engines)
    sizes = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in memory.items())
    lines.append(f"memory with a window of 8,192: {sizes}")
    for engine in engines.values():
        await engine.close()
    return lines


async def _of_workload(
    title: str, prompts: Sequence[Prompt], engines: dict[str, Engine]
) -> list[str]:
    speeds: dict[str, list[Timing]] = {name: [] for name in engines}
    for prompt in prompts:
        for name, engine in engines.items():
            speeds[name].append(await time_engine(engine, prompt, 128))
    texts = {
        name: [(await complete(engine, prompt, greedy(128)))[0] for prompt in prompts]
        for name, engine in engines.items()
    }
    plain = texts["as it is"]
    found = []
    for name in list(engines)[1:]:
        ratios = [a.speed / b.speed for a, b in zip(speeds[name], speeds["as it is"], strict=True)]
        equal = sum(a == b for a, b in zip(texts[name], plain, strict=True))
        found.append(f"{name} {median(ratios):.2f}x, {equal} of {len(plain)} texts equal")
    return [f"{title}: {'; '.join(found)}"]


def _opened(options: EmbeddedOptions) -> Engine:
    return open_engine(MODEL, LoadOptions(context=8192, embedded=options, use="many"))
