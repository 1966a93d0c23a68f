"""The transformers engine on an NVIDIA card: speed beside `transformers.generate`, and memory."""

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.measuring import MODEL, QUESTIONS, TOKENS, greedy, time_engine
from chatkit.catalogue import find
from chatkit.engine import complete
from chatkit.engines.opening import LoadOptions, open_engine
from chatkit.engines.transformers import TransformersEngine
from chatkit.engines.weights import Quantize
from chatkit.hardware import probe
from chatkit.memory import Workload, estimate, load_of
from chatkit.messages import user
from chatkit.prompt import Prompt, build_prompt

REPEATS = 3
ROWS = 32
LOADS: tuple[tuple[Quantize | None, int], ...] = (
    (None, 512),
    (None, 2048),
    (None, 8000),
    ("int8", 512),
    ("int4", 512),
)


def run() -> Iterator[str]:
    """Print speeds as ratios, and the memory of each load beside its estimate."""
    import torch
    import transformers

    if not torch.cuda.is_available():
        yield "no NVIDIA card is visible to PyTorch here, so nothing was measured"
        return
    free = probe().free
    engine = _open(None)
    assert engine.model is not None
    yield (
        f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, transformers "
        f"{transformers.__version__}, weights in {str(engine.model.dtype).removeprefix('torch.')}"
    )
    yield from _single(engine)
    yield from _together(engine)
    asyncio.run(engine.close())
    yield from _memory(free)


def _single(engine: TransformersEngine) -> Iterator[str]:
    ours, theirs, firsts, one_token = [], [], [], []
    prompts = [build_prompt(engine.template, [user(question)]) for question in QUESTIONS]
    for prompt in prompts:
        asyncio.run(time_engine(engine, prompt))
        for _ in range(REPEATS):
            timing = asyncio.run(time_engine(engine, prompt))
            ours.append(timing.speed)
            firsts.append(timing.first)
            one_token.append(_generate(engine, [prompt], 1))
            seconds = _generate(engine, [prompt], TOKENS) - one_token[-1]
            theirs.append((TOKENS - 1) / seconds)
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    yield (
        f"one answer: ours {median(ours):.1f} tokens/s, generate {median(theirs):.1f}, "
        f"median of the pairs {median(ratios):.2f}"
    )
    yield (
        f"first text after {median(firsts) * 1000:.1f} ms; generate of one token takes "
        f"{median(one_token) * 1000:.1f} ms"
    )


def _together(engine: TransformersEngine) -> Iterator[str]:
    questions = [f"{QUESTIONS[row % len(QUESTIONS)]} {row}." for row in range(ROWS)]
    prompts = [build_prompt(engine.template, [user(question)]) for question in questions]
    ours, theirs = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        answers = asyncio.run(engine.batch(prompts, greedy()))
        seconds = time.perf_counter() - began
        written = sum(len(engine.template.tokenizer.encode(answer)) for answer in answers)
        ours.append(written / seconds)
        theirs.append(ROWS * TOKENS / _generate(engine, prompts, TOKENS))
    yield (
        f"{ROWS} answers together: ours {median(ours):.0f} tokens/s, generate "
        f"{median(theirs):.0f} ({median(ours) / median(theirs):.2f}), prompts included"
    )


def _generate(engine: TransformersEngine, prompts: Sequence[Prompt], tokens: int) -> float:
    """Give the seconds that transformers' own loop takes for so many tokens of each answer."""
    import torch

    model = engine.model
    assert model is not None
    width = max(len(prompt.ids) for prompt in prompts)
    padding = [width - len(prompt.ids) for prompt in prompts]
    rows = list(zip(padding, prompts, strict=True))
    ids = torch.tensor([[0] * gap + list(prompt.ids) for gap, prompt in rows], device=model.device)
    mask = torch.tensor([[0] * gap + [1] * (width - gap) for gap in padding], device=model.device)
    began = time.perf_counter()
    model.generate(  # type: ignore[operator]
        ids, attention_mask=mask, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False
    )
    torch.cuda.synchronize()
    return time.perf_counter() - began


class _Held(NamedTuple):
    """What a load took on the card, in bytes."""

    peak: int
    reserved: int
    beside: int


def _memory(free: int) -> Iterator[str]:
    entry = find(MODEL)
    for quantize, tokens in LOADS:
        workload = Workload(quantize, tokens, engine="transformers")
        parts = estimate(entry, load_of(entry, workload, "cuda"))
        held = _hold(quantize, tokens, free)
        measured = held.peak + held.beside
        yield (
            f"{quantize or 'whole'}, {tokens} tokens: {_mb(measured)} MB measured "
            f"({_mb(held.peak)} of tensors, {_mb(held.beside)} beside PyTorch's allocator, which "
            f"had reserved {_mb(held.reserved)}), {_mb(parts.total)} estimated "
            f"({_mb(parts.total - parts.overhead)} and {_mb(parts.overhead)}), "
            f"ratio {parts.total / measured:.2f}"
        )


def _hold(quantize: Quantize | None, tokens: int, free: int) -> _Held:
    """Answer a prompt that nearly fills the tokens, and see what the card held at the peak."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    engine = _open(quantize)
    prompt = build_prompt(engine.template, [user("word " * (tokens - 70))])
    asyncio.run(complete(engine, prompt, greedy(20)))
    beside = free - probe().free - torch.cuda.memory_reserved()
    held = _Held(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), beside)
    asyncio.run(engine.close())
    return held


def _open(quantize: Quantize | None) -> TransformersEngine:
    engine = open_engine(f"{MODEL}@transformers", LoadOptions(quantize))
    assert isinstance(engine, TransformersEngine)
    return engine


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f}"
