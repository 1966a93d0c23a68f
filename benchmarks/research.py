"""The embedded engine, and our decoding loop, against `transformers.generate` on this machine."""

import asyncio
import time
from collections.abc import Iterator
from statistics import median

from benchmarks.measuring import MODEL, QUESTIONS, time_engine
from chatkit.engines.opening import MANY, SESSION, LoadOptions, open_engine
from chatkit.engines.transformers import TransformersEngine
from chatkit.messages import user
from chatkit.prompt import build_prompt

TOKENS = 32
REPEATS = 3
EMBEDDED = {
    "as a notebook, a script or a terminal loads it": (MODEL, SESSION),
    "as a page loads it": (MODEL, LoadOptions()),
    "as a server or an evaluation loads it": (MODEL, MANY),
    "in 4 bits, in a notebook, a script or a terminal": (f"{MODEL}-q4", SESSION),
}


def run() -> Iterator[str]:
    """Print tokens/s of each and their ratios."""
    embedded = {title: open_engine(*each) for title, each in EMBEDDED.items()}
    research = open_engine(f"{MODEL}@transformers")
    assert isinstance(research, TransformersEngine)
    speeds: dict[str, list[float]] = {name: [] for name in (*EMBEDDED, "loop", "generate")}
    for question in QUESTIONS:
        prompt = build_prompt(research.template, [user(question)])
        for _ in range(REPEATS):
            for name, engine in (*embedded.items(), ("loop", research)):
                speeds[name].append(asyncio.run(time_engine(engine, prompt, TOKENS)).speed)
            speeds["generate"].append(_generate(research, prompt.ids))
    told = {name: median(each) for name, each in speeds.items()}
    generate = told["generate"]
    yield f"transformers.generate: {generate:.1f} tokens/s"
    for name in EMBEDDED:
        yield (
            f"embedded, {name}: {told[name]:.1f} tokens/s, "
            f"ratio {told[name] / generate:.1f} (target at least 5)"
        )
    yield f"our loop in transformers: {told['loop']:.1f}, {told['loop'] / generate:.2f}x generate"


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
