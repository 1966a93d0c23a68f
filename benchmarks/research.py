"""The embedded engine, and our decoding loop, against `transformers.generate` on this machine."""

import asyncio
import time
from collections.abc import Iterator
from statistics import median

from benchmarks.measuring import MODEL, QUESTIONS, time_engine
from chatkit.engines.opening import MANY, open_engine
from chatkit.engines.transformers import TransformersEngine
from chatkit.messages import user
from chatkit.prompt import build_prompt

TOKENS = 32
REPEATS = 3


def run() -> Iterator[str]:
    """Print tokens/s of the three and their ratios."""
    # As evaluations load it: no page wants a core beside it, nor beside transformers.
    embedded, research = open_engine(MODEL, MANY), open_engine(f"{MODEL}@transformers")
    assert isinstance(research, TransformersEngine)
    ours, loop, theirs = [], [], []
    for question in QUESTIONS:
        prompt = build_prompt(embedded.template, [user(question)])
        for _ in range(REPEATS):
            ours.append(asyncio.run(time_engine(embedded, prompt, TOKENS)).speed)
            loop.append(asyncio.run(time_engine(research, prompt, TOKENS)).speed)
            theirs.append(_generate(research, prompt.ids))
    mine, generate = median(ours), median(theirs)
    yield (
        f"tokens/s: embedded {mine:.1f}, transformers.generate {generate:.1f}, "
        f"ratio {mine / generate:.1f} (target at least 5)"
    )
    yield f"our loop in transformers: {median(loop):.1f}, {median(loop) / generate:.2f}x generate"


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
