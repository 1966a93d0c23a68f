"""What the embedded engine does beside what it must, where one asks for it."""

import asyncio
from pathlib import Path

import pytest

from chatkit.engine import complete
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.llamacpp_server import EmbeddedOptions
from chatkit.engines.opening import ALONE, LoadOptions, open_engine
from chatkit.errors import Unsupported
from chatkit.messages import assistant, user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

pytestmark = [pytest.mark.anyio, pytest.mark.model]
GREEDY = Sampling(temperature=0, max_tokens=48)


async def test_guessed_tokens_are_the_models_own(
    llamacpp: LlamaCppEngine, model_home: Path
) -> None:
    options = LoadOptions(context=2048, embedded=EmbeddedOptions(speculate=True))
    guessing = await asyncio.to_thread(open_engine, "smollm2-135m", options)
    for text in ("Explain tides.", "Repeat: one two three one two three", "Explain tides."):
        prompt = build_prompt(llamacpp.template, [user(text)])
        plain, _ = await complete(llamacpp, prompt, GREEDY)
        guessed, _ = await complete(guessing, prompt, GREEDY)
        assert guessed == plain
    await guessing.close()


async def test_a_cache_of_8_bits_answers(model_home: Path) -> None:
    options = LoadOptions(context=512, embedded=EmbeddedOptions(kv_cache="q8_0"))
    engine = await asyncio.to_thread(open_engine, "smollm2-135m", options)
    prompt = build_prompt(engine.template, [user("What is the capital of France?")])
    text, _ = await complete(engine, prompt, GREEDY)
    assert "Paris" in text
    await engine.close()


async def test_an_engine_for_one_conversation_says_the_same(
    llamacpp: LlamaCppEngine, model_home: Path
) -> None:
    alone = await asyncio.to_thread(open_engine, "smollm2-135m", ALONE)
    said = [user("Explain tides."), assistant("They follow the moon."), user("And the sun?")]
    prompt = build_prompt(llamacpp.template, said)
    text, _ = await complete(alone, prompt, GREEDY)
    assert text == (await complete(llamacpp, prompt, GREEDY))[0]
    await alone.close()


async def test_it_may_have_a_cache_of_8_bits_too(model_home: Path) -> None:
    embedded = EmbeddedOptions(kv_cache="q8_0")
    options = LoadOptions(context=512, embedded=embedded, shared=False)
    engine = await asyncio.to_thread(open_engine, "smollm2-135m", options)
    prompt = build_prompt(engine.template, [user("What is the capital of France?")])
    text, _ = await complete(engine, prompt, GREEDY)
    assert "Paris" in text
    await engine.close()


def test_other_engines_refuse_them(model_home: Path) -> None:
    options = LoadOptions(embedded=EmbeddedOptions(speculate=True))
    for name in ("smollm2-135m@transformers", "tgi:http://127.0.0.1:1"):
        with pytest.raises(Unsupported, match="embedded engine"):
            open_engine(name, options)
