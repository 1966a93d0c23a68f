"""The embedded engine, and our decoding loop, against `transformers.generate` on this machine."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

from benchmarks.measuring import MODEL, QUESTIONS, time_engine
from chatkit.engine import Engine
from chatkit.engines.opening import MANY, SESSION, LoadOptions, open_engine
from chatkit.engines.transformers import TransformersEngine
from chatkit.messages import user
from chatkit.prompt import build_prompt

TOKENS = 32
REPEATS = 3
ROUNDS = 2
SETTLING_SECONDS = 3
EMBEDDED = {
    "as a notebook, a script or a terminal loads it": (MODEL, SESSION),
    "as a page loads it": (MODEL, LoadOptions()),
    "as a server or an evaluation loads it": (MODEL, MANY),
    "in 4 bits, in a notebook, a script or a terminal": (f"{MODEL}-q4", SESSION),
}
Speeds = dict[str, list[float]]


def run() -> Iterator[str]:
    """Print tokens/s of each and their ratios.

    Each engine has a process of its own, as it has where people use it: llama.cpp writes a fifth
    slower beside a second, idle engine in its process.
    """
    told: Speeds = {}
    for _ in range(ROUNDS):
        measured = [_alone(_embedded, title) for title in EMBEDDED]
        for speeds in (*measured, _alone(_transformers)):
            for name, each in speeds.items():
                told.setdefault(name, []).extend(each)
    middle = {name: median(each) for name, each in told.items()}
    generate = middle["generate"]
    yield f"transformers.generate: {generate:.1f} tokens/s"
    for name in EMBEDDED:
        yield (
            f"embedded, {name}: {middle[name]:.1f} tokens/s, "
            f"ratio {middle[name] / generate:.1f} (target at least 5)"
        )
    loop = middle["loop"]
    yield f"our loop in transformers: {loop:.1f}, {loop / generate:.2f}x generate"


def _alone(measure: Callable[..., Speeds], *arguments: str) -> Speeds:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, *arguments).result()


def _embedded(title: str) -> Speeds:
    engine = open_engine(*EMBEDDED[title])
    # For a second after loading, a thread gathers the weights into large pages.
    _ask(engine, QUESTIONS[0])
    time.sleep(SETTLING_SECONDS)
    speeds = [_ask(engine, question) for question in QUESTIONS for _ in range(REPEATS)]
    asyncio.run(engine.close())
    return {title: speeds}


def _transformers() -> Speeds:
    engine = open_engine(f"{MODEL}@transformers")
    assert isinstance(engine, TransformersEngine)
    _ask(engine, QUESTIONS[0])
    speeds: Speeds = {"loop": [], "generate": []}
    for question in QUESTIONS:
        prompt = build_prompt(engine.template, [user(question)])
        for _ in range(REPEATS):
            speeds["loop"].append(_ask(engine, question))
            speeds["generate"].append(_generate(engine, prompt.ids))
    return speeds


def _ask(engine: Engine, question: str) -> float:
    prompt = build_prompt(engine.template, [user(question)])
    return asyncio.run(time_engine(engine, prompt, TOKENS)).speed


def _generate(engine: TransformersEngine, ids: tuple[int, ...]) -> float:
    import torch

    assert engine.model is not None
    tokens = torch.tensor([ids])

    def seconds(count: int) -> float:
        began = time.perf_counter()
        engine.model.generate(  # type: ignore[union-attr]
            tokens,
            attention_mask=torch.ones_like(tokens),
            min_new_tokens=count,
            max_new_tokens=count,
            do_sample=False,
        )
        return time.perf_counter() - began

    # Less one token's time, so that reading the prompt does not count, as it does not for ours.
    return (TOKENS - 1) / (seconds(TOKENS) - seconds(1))
