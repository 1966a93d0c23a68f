"""Same weights, same text: the embedded engine against transformers in 32 bits."""

import asyncio

import pytest

from chatkit.engine import complete
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.transformers import TransformersEngine
from chatkit.finetuning.verifying import gap_at_split
from chatkit.messages import user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

pytestmark = [pytest.mark.anyio, pytest.mark.model]

GREEDY = Sampling(temperature=0, max_tokens=48)
QUESTIONS = (
    "What is the capital of France?",
    "Explain how a rainbow forms.",
    "Write a haiku about winter.",
    "What is 12 times 12?",
    "Name three planets and one fact about each.",
    "Translate 'good morning' into Spanish.",
    "Write a Python function that adds two numbers.",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "Who wrote Romeo and Juliet?",
)


@pytest.fixture(scope="module")
def references(transformers: TransformersEngine) -> dict[str, str]:
    """What transformers says to each question, all in one batch."""
    prompts = [build_prompt(transformers.template, [user(text)]) for text in QUESTIONS]
    answers = asyncio.run(transformers.batch(prompts, GREEDY))
    return dict(zip(QUESTIONS, answers, strict=True))


async def test_f16_says_what_32_bits_say(
    llamacpp: LlamaCppEngine, references: dict[str, str]
) -> None:
    same = 0
    for question, reference in references.items():
        prompt = build_prompt(llamacpp.template, [user(question)])
        embedded, _ = await complete(llamacpp, prompt, GREEDY)
        same += embedded == reference
    print(f"F16 against 32 bits: {same} of {len(QUESTIONS)} answers equal")
    assert same >= 9


async def test_q4_parts_only_where_two_tokens_are_nearly_as_likely(
    llamacpp_q4: LlamaCppEngine, transformers: TransformersEngine, references: dict[str, str]
) -> None:
    gaps = []
    for question, reference in references.items():
        prompt = build_prompt(transformers.template, [user(question)])
        quantised, _ = await complete(llamacpp_q4, prompt, GREEDY)
        if quantised != reference:
            gaps.append(gap_at_split(transformers, prompt, quantised, reference))
    print(f"Q4_1 parts in {len(gaps)} of {len(QUESTIONS)}, gaps {[f'{g:.3f}' for g in gaps]} nat")
    # llama.cpp rounds activations to 8 bits too.
    assert all(gap <= 0.25 for gap in gaps)
