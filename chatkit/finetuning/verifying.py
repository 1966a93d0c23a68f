"""Proves that a result says the same wherever it serves, or by how little it parts."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chatkit.background import wait_for
from chatkit.engine import Engine, complete
from chatkit.engines.opening import LoadOptions, open_engine
from chatkit.engines.transformers import TransformersEngine
from chatkit.finetuning.merging import export, merge
from chatkit.messages import user
from chatkit.prompt import Prompt, build_prompt
from chatkit.sampling import Sampling

PROMPTS = (
    "What is the capital of France?",
    "Explain how a rainbow forms.",
    "Name three planets and one fact about each.",
    "Write a Python function that adds two numbers.",
    "Why is the sky blue?",
    "What is 12 times 12?",
)
ANSWER = Sampling(temperature=0, max_tokens=48)
CONTEXT = 2_048


class Parting(NamedTuple):
    """Where two texts part.

    Args:
        prompt: what was asked.
        gap: by how much the likelier token is likelier there, in nats.
    """

    prompt: str
    gap: float


class Compared(NamedTuple):
    """A form of a result beside the adapter on its base.

    Args:
        form: what it is.
        equal: how many greedy texts are the same.
        asked: how many there are.
        partings: where the others part.
        logits: the largest difference of logits; None where the engine tells none.
        passes: whether it is close enough.
    """

    form: str
    equal: int
    asked: int
    partings: tuple[Parting, ...]
    logits: float | None
    passes: bool


def verify(
    folder: Path,
    *,
    most_logits: float = 1e-3,
    most_gap: float = 0.5,
    storages: tuple[str, ...] = ("f16", "q8_0"),
    prompts: Sequence[str] = PROMPTS,
) -> list[Compared]:
    """Compare an adapter on its base with itself merged, and in GGUF files of each precision.

    Args:
        folder: of the adapter.
        most_logits: the largest difference of logits after merging.
        most_gap: the largest gap where a quantised text parts, in nats; F16 must not part.
        storages: precisions of the merged GGUF file, of `f16`, `q8_0` and `q4`.
        prompts: what is asked.

    Raises: as `chatkit.finetuning.merging.export`.
    """
    with tempfile.TemporaryDirectory(prefix="chatkit-verify-") as place:
        merged = merge(folder, Path(place) / "merged")
        files = export(folder, Path(place) / "gguf", storages)
        adapted = _transformers(str(folder.resolve()))
        asked = [build_prompt(adapted.template, [user(text)]) for text in prompts]
        texts = wait_for(_said(adapted, asked))
        try:
            found = [_merged(adapted, merged, asked, texts, prompts, most_logits)]
            forms = {"GGUF adapter on f16": f"{folder.resolve()}@llamacpp"}
            forms |= {f"GGUF merged {name}": str(path) for name, path in files.merged.items()}
            for form, name in forms.items():
                said = wait_for(_embedded(name, asked))
                partings = _partings(adapted, asked, texts, said, prompts)
                allowed = 0.0 if "f16" in form else most_gap
                passes = all(parting.gap <= allowed for parting in partings)
                equal = len(asked) - len(partings)
                found.append(Compared(form, equal, len(asked), partings, None, passes))
            return found
        finally:
            wait_for(adapted.close())


def gap_at_split(engine: TransformersEngine, prompt: Prompt, one: str, other: str) -> float:
    """Give the gap between the two likeliest tokens where two texts part, in nats.

    Args:
        engine: whose probabilities count.
        prompt: what was asked.
        one: a text.
        other: another one; what both begin with is what the engine is asked about.
    """
    import torch

    first, second = (
        [token.id for token in engine.template.tokenizer.encode(text)] for text in (one, other)
    )
    pairs = zip(first, second, strict=False)
    split = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
    ids = torch.tensor([[*prompt.ids, *second[:split]]])
    assert engine.model is not None
    with torch.inference_mode():
        logits = engine.model(ids.to(engine.model.device)).logits[0, -1]
    best = logits.float().log_softmax(-1).topk(2).values
    return float(best[0] - best[1])


def _merged(
    adapted: TransformersEngine,
    merged: Path,
    asked: Sequence[Prompt],
    texts: Sequence[str],
    prompts: Sequence[str],
    most: float,
) -> Compared:
    engine = _transformers(str(merged))
    difference = max(_difference(adapted, engine, prompt) for prompt in asked)
    said = wait_for(_said(engine, asked))
    wait_for(engine.close())
    partings = _partings(adapted, asked, texts, said, prompts)
    passes = difference <= most and not partings
    return Compared("merged", len(asked) - len(partings), len(asked), partings, difference, passes)


def _difference(one: TransformersEngine, other: TransformersEngine, prompt: Prompt) -> float:
    import torch

    models: list[Any] = [one.model, other.model]
    ids = torch.tensor([prompt.ids])
    with torch.inference_mode():
        logits = [model(ids.to(model.device)).logits.float().cpu() for model in models]
    return float((logits[0] - logits[1]).abs().max())


def _partings(
    adapted: TransformersEngine,
    asked: Sequence[Prompt],
    texts: Sequence[str],
    said: Sequence[str],
    prompts: Sequence[str],
) -> tuple[Parting, ...]:
    rows = zip(prompts, asked, texts, said, strict=True)
    return tuple(
        Parting(question, gap_at_split(adapted, prompt, other, text))
        for question, prompt, text, other in rows
        if text != other
    )


def _transformers(name: str) -> TransformersEngine:
    engine = open_engine(name)
    assert isinstance(engine, TransformersEngine)
    return engine


async def _embedded(name: str, asked: Sequence[Prompt]) -> list[str]:
    engine = await asyncio.to_thread(open_engine, name, LoadOptions(context=CONTEXT))
    try:
        return await _said(engine, asked)
    finally:
        await engine.close()


async def _said(engine: Engine, asked: Sequence[Prompt]) -> list[str]:
    return [(await complete(engine, prompt, ANSWER))[0] for prompt in asked]
