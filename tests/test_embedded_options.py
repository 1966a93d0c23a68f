"""What the embedded engine does beside what it must, where one asks for it."""

import asyncio
from pathlib import Path

import pytest
from xllamacpp import CommonParams, llama_flash_attn_type

from chatkit.engine import complete
from chatkit.engines import llamacpp_server
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.llamacpp_server import CacheType, EmbeddedOptions, Use, start_llamacpp
from chatkit.engines.opening import MANY, LoadOptions, open_engine
from chatkit.errors import Unsupported
from chatkit.messages import assistant, user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

pytestmark = [pytest.mark.anyio, pytest.mark.model]
GREEDY = Sampling(temperature=0, max_tokens=48)


def _told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: EmbeddedOptions, use: Use
) -> CommonParams:
    told: list[CommonParams] = []
    monkeypatch.setattr(
        llamacpp_server, "import_xllamacpp", lambda: (CommonParams, lambda it: told.append(it))
    )
    gguf = folder / "model.gguf"
    gguf.touch()
    start_llamacpp(gguf, 512, options=options, use=use)
    return told[0]


@pytest.mark.slow
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


async def test_an_engine_for_many_conversations_says_the_same(
    llamacpp: LlamaCppEngine, model_home: Path
) -> None:
    many = await asyncio.to_thread(open_engine, "smollm2-135m", MANY)
    said = [user("Explain tides."), assistant("They follow the moon."), user("And the sun?")]
    prompt = build_prompt(llamacpp.template, said)
    text, _ = await complete(many, prompt, GREEDY)
    assert text == (await complete(llamacpp, prompt, GREEDY))[0]
    await many.close()


@pytest.mark.parametrize(
    ("use", "on_card", "kv_cache", "plain"),
    [
        ("page", False, "f16", True),
        ("session", False, "f16", True),
        ("many", False, "f16", False),
        ("page", True, "f16", False),
        ("page", False, "q8_0", False),
    ],
)
def test_only_few_conversations_on_a_cpu_take_plain_attention(
    use: Use,
    on_card: bool,
    kv_cache: CacheType,
    plain: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(llamacpp_server, "has_card", lambda: on_card)
    options = EmbeddedOptions(kv_cache=kv_cache)
    told = _told(tmp_path, monkeypatch, options, use)
    off = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    assert (told.flash_attn_type == off) is plain
    # There, what is masked costs as much as what is not.
    assert told.cache_idle_slots is (plain or on_card)
    assert told.fit_params is on_card


@pytest.mark.parametrize(
    ("use", "cores", "writing"),
    [
        ("page", 2, 1),
        ("session", 2, 2),
        ("many", 2, 2),
        ("page", 8, 7),
        ("session", 8, 7),
        ("many", 8, 7),
        ("page", 1, 1),
    ],
)
def test_of_two_cores_only_a_page_is_left_one_and_of_more_one_is_always_left(
    use: Use, cores: int, writing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamacpp_server, "core_count", lambda: cores)
    told = _told(tmp_path, monkeypatch, EmbeddedOptions(), use)
    assert told.cpuparams.n_threads == writing
    assert told.cpuparams_batch.n_threads == cores


@pytest.mark.slow
@pytest.mark.parametrize(
    # Two conversations of 320 tokens take 15 MiB; with many, those that rest stay in the window.
    ("options", "free_mib"),
    [(LoadOptions(), 16 * 20), (MANY, 16)],
)
async def test_what_conversations_that_take_turns_need_is_kept(
    options: LoadOptions,
    free_mib: int,
    model_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(llamacpp_server, "LEAST_IDLE_CACHE", 1)
    monkeypatch.setattr(llamacpp_server, "available_memory", lambda: free_mib * 2**20)
    engine = await asyncio.to_thread(open_engine, "smollm2-135m-q4", options)
    texts = [f"Room {room}. " + "The sea was calm that day. " * 40 for room in (1, 2)]
    prompts = [build_prompt(engine.template, [user(text)]) for text in texts]
    brief = Sampling(max_tokens=4)
    told = [(await complete(engine, prompt, brief))[1].usage for prompt in prompts * 2]
    for usage in told[2:]:
        assert usage is not None
        assert usage.cached_tokens == usage.prompt_tokens - 1
    await engine.close()


def test_other_engines_refuse_them(model_home: Path) -> None:
    options = LoadOptions(embedded=EmbeddedOptions(speculate=True))
    for name in ("smollm2-135m@transformers", "tgi:http://127.0.0.1:1"):
        with pytest.raises(Unsupported, match="embedded engine"):
            open_engine(name, options)
