"""What the embedded engine does beside what it must, where one asks for it."""

import asyncio
from pathlib import Path

import pytest
from xllamacpp import CommonParams, llama_flash_attn_type

from chatkit.engine import complete
from chatkit.engines import llamacpp_server
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.llamacpp_server import CacheType, EmbeddedOptions, start_llamacpp
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


@pytest.mark.parametrize(
    ("shared", "on_card", "kv_cache", "plain"),
    [
        (False, False, "f16", True),
        (True, False, "f16", False),
        (False, True, "f16", False),
        (False, False, "q8_0", False),
    ],
)
def test_only_one_conversation_on_a_cpu_takes_plain_attention(
    shared: bool,
    on_card: bool,
    kv_cache: CacheType,
    plain: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[CommonParams] = []
    monkeypatch.setattr(llamacpp_server, "has_card", lambda: on_card)
    monkeypatch.setattr(
        llamacpp_server, "import_xllamacpp", lambda: (CommonParams, lambda it: told.append(it))
    )
    (tmp_path / "model.gguf").touch()
    options = EmbeddedOptions(kv_cache=kv_cache)
    start_llamacpp(tmp_path / "model.gguf", 512, options=options, shared=shared)
    off = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    assert (told[0].flash_attn_type == off) is plain
    assert told[0].fit_params is on_card


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
