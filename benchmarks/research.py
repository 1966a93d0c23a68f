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
    """Print tokens/s of each and their ratios."""
    page, many = open_engine(MODEL), open_engine(MODEL, MANY)
    research = open_engine(f"{MODEL}@transformers")
    assert isinstance(research, TransformersEngine)
    speeds: dict[str, list[float]] = {"page": [], "many": [], "loop": [], "generate": []}
    for question in QUESTIONS:
        prompt = build_prompt(page.template, [user(question)])
        for _ in range(REPEATS):
            for name, engine in (("page", page), ("many", many), ("loop", research)):
                speeds[name].append(asyncio.run(time_engine(engine, prompt, TOKENS)).speed)
            speeds["generate"].append(_generate(research, prompt.ids))
    told = {name: median(each) for name, each in speeds.items()}
    generate = told["generate"]
    yield (
        f"tokens/s: embedded {told['page']:.1f}, transformers.generate {generate:.1f}, "
        f"ratio {told['page'] / generate:.1f} (target at least 5)"
    )
    yield (
        f"embedded as servers and evaluations load it: {told['many']:.1f}, "
        f"{told['many'] / generate:.1f}x generate, {told['many'] / told['page']:.2f}x a page's"
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
