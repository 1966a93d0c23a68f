"""One base, many adapters: chosen by request, the same text on each engine, none restarted."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from lessons import LESSONS, QUESTIONS, train_adapter

from chatkit.adapters.gguf import adapter_for_llamacpp
from chatkit.adapters.reading import read_adapter
from chatkit.engine import Engine
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.opening import LoadOptions, open_engine
from chatkit.engines.transformers import TransformersEngine
from chatkit.engines.weights import load_weights
from chatkit.errors import InputError, ModelFileError, Unsupported
from chatkit.finetuning.verifying import gap_at_split
from chatkit.loading.folder import ModelFolder
from chatkit.messages import user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

pytestmark = [pytest.mark.anyio, pytest.mark.model, pytest.mark.slow]
GREEDY = Sampling(temperature=0, max_tokens=24)


@pytest.fixture(scope="module")
def checkpoint(default_model_home: Path) -> Path:
    return ModelFolder(default_model_home / "models" / "smollm2-135m").checkpoint


@pytest.fixture(scope="module")
def folders(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of different make."""
    place = tmp_path_factory.mktemp("adapters")
    return {
        "pirate": train_adapter(checkpoint, place / "pirate", "pirate"),
        "butler": train_adapter(
            checkpoint,
            place / "butler",
            "butler",
            use_rslora=True,
            target_modules=["q_proj", "k_proj", "down_proj"],
            alpha_pattern={"q_proj": 16},
            rank_pattern={"k_proj": 8},
        ),
    }


@pytest.fixture
async def embedded(folders: dict[str, Path], model_home: Path) -> AsyncIterator[LlamaCppEngine]:
    engine = await asyncio.to_thread(
        open_engine, "smollm2-135m", LoadOptions(context=2048, adapters=tuple(folders.items()))
    )
    assert isinstance(engine, LlamaCppEngine)
    yield engine
    await engine.close()


@pytest.fixture(scope="module")
def research(folders: dict[str, Path], default_model_home: Path) -> Iterator[TransformersEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATKIT_HOME", str(default_model_home))
        options = LoadOptions(adapters=tuple(folders.items()))
        engine = open_engine("smollm2-135m@transformers", options)
    assert isinstance(engine, TransformersEngine)
    yield engine
    asyncio.run(engine.close())


async def said(
    engine: Engine, question: str, adapter: str | None = None, sampling: Sampling = GREEDY
) -> str:
    prompt = build_prompt(engine.template, [user(question)])
    return "".join([delta.text async for delta in engine.stream(prompt, sampling, adapter)])


@pytest.fixture(scope="module")
async def references(
    research: TransformersEngine, folders: dict[str, Path]
) -> dict[str, dict[str, str]]:
    """What each adapter says to each question, computed with 32 bits."""
    return {
        name: {question: await said(research, question, name) for question in QUESTIONS}
        for name in folders
    }


@pytest.mark.parametrize("name", ["pirate", "butler"])
async def test_an_adapter_says_the_same_on_each_engine_and_merged(
    name: str,
    embedded: LlamaCppEngine,
    research: TransformersEngine,
    folders: dict[str, Path],
    checkpoint: Path,
    references: dict[str, dict[str, str]],
) -> None:
    from peft import PeftModel

    merged = PeftModel.from_pretrained(load_weights(checkpoint), folders[name]).merge_and_unload()
    whole = TransformersEngine("merged", merged, research.template, research.defaults)
    assert references[name][QUESTIONS[1]] == LESSONS[name]
    for question, reference in references[name].items():
        assert await said(whole, question) == reference
        assert await said(embedded, question, name) == reference
    await whole.close()


async def test_on_a_quantised_base_an_adapter_parts_where_two_tokens_are_as_likely(
    folders: dict[str, Path],
    research: TransformersEngine,
    references: dict[str, dict[str, str]],
    default_model_home: Path,
    model_home: Path,
) -> None:
    options = LoadOptions(context=1024, adapters=tuple(folders.items()))
    gguf = ModelFolder(default_model_home / "models" / "smollm2-135m").gguf_of("q4_1")
    quantised = await asyncio.to_thread(open_engine, str(gguf), options)
    gaps = []
    for name, spoken in references.items():
        for question, reference in spoken.items():
            text = await said(quantised, question, name)
            if text != reference:
                prompt = build_prompt(research.template, [user(question)])
                with research._speaking_as(name):
                    gaps.append(gap_at_split(research, prompt, text, reference))
            if question in QUESTIONS[:2]:
                assert text == LESSONS[name]
    print(f"adapters on Q4_1 part in {len(gaps)} of 8, gaps {[f'{g:.3f}' for g in gaps]} nat")
    assert all(gap <= 1.0 for gap in gaps)
    await quantised.close()


async def test_the_base_is_untouched_beside_adapters(
    embedded: LlamaCppEngine, research: TransformersEngine, llamacpp: LlamaCppEngine
) -> None:
    assert embedded.adapters == research.adapters == ("pirate", "butler")
    question = QUESTIONS[0]
    base = await said(llamacpp, question)
    assert await said(embedded, question) == await said(research, question) == base


async def test_what_one_adapter_has_read_is_not_what_another_one_has(
    embedded: LlamaCppEngine,
) -> None:
    short = Sampling(temperature=0, max_tokens=8)
    # More conversations than slots, so that states are put away and fetched again.
    asked = [(one, question) for one in (None, "pirate", "butler") for question in QUESTIONS]
    first = [await said(embedded, question, one, short) for one, question in asked]
    again = [await said(embedded, question, one, short) for one, question in reversed(asked)]
    assert again == first[::-1]
    for (one, question), text in zip(asked, first, strict=True):
        if one and question in QUESTIONS[:2]:
            assert LESSONS[one].startswith(text)


async def test_requests_with_different_adapters_at_once_do_not_mix(
    embedded: LlamaCppEngine, research: TransformersEngine
) -> None:
    choices: list[str | None] = [None, "pirate", "butler", "pirate", None, "butler"]
    short = Sampling(temperature=0, max_tokens=10)
    for engine in (embedded, research):
        alone = {one: await said(engine, QUESTIONS[1], one, short) for one in set(choices)}
        assert len(set(alone.values())) == 3
        together = await asyncio.gather(
            *(said(engine, QUESTIONS[1], one, short) for one in choices)
        )
        assert together == [alone[one] for one in choices]


async def test_an_adapter_that_is_not_there_is_refused_with_those_that_are(
    embedded: LlamaCppEngine, research: TransformersEngine
) -> None:
    for engine in (embedded, research):
        with pytest.raises(Unsupported, match="no adapter 'nobody' loaded; it has pirate, butler"):
            await said(engine, "x", "nobody")


async def test_an_adapter_folder_opens_on_the_embedded_engine(
    folders: dict[str, Path], research: TransformersEngine, model_home: Path
) -> None:
    name = f"{folders['pirate']}@llamacpp"
    engine = await asyncio.to_thread(open_engine, name, LoadOptions(context=1024))
    assert await said(engine, QUESTIONS[0]) == await said(research, QUESTIONS[0], "pirate")
    await engine.close()


async def test_adding_an_adapter_cuts_no_stream_and_removing_it_neither(
    folders: dict[str, Path], research: TransformersEngine, model_home: Path
) -> None:
    engine = await asyncio.to_thread(open_engine, "smollm2-135m", LoadOptions(context=2048))
    assert isinstance(engine, LlamaCppEngine)
    gguf = ModelFolder(model_home / "models" / "smollm2-135m").gguf_of("f16")
    file = adapter_for_llamacpp(read_adapter(folders["pirate"]), gguf)
    long = Sampling(temperature=0, max_tokens=120)
    alone = await said(engine, QUESTIONS[1], sampling=long)
    prompt = build_prompt(engine.template, [user(QUESTIONS[1])])

    async with aclosing(engine.stream(prompt, long)) as stream:
        heard = [(await anext(stream)).text]
        await engine.add_adapter("pirate", file)
        assert engine.adapters == ("pirate",)
        there = await said(research, QUESTIONS[0], "pirate")
        assert await said(engine, QUESTIONS[0], "pirate") == there
        heard += [delta.text async for delta in stream]
    assert "".join(heard) == alone

    async with aclosing(engine.stream(prompt, long, "pirate")) as stream:
        first = (await anext(stream)).text
        await engine.remove_adapter("pirate")
        rest = [delta.text async for delta in stream]
    assert len(first + "".join(rest)) > len(first)
    assert engine.adapters == () and await said(engine, QUESTIONS[1], sampling=long) == alone
    with pytest.raises(InputError, match="nothing to remove"):
        await engine.remove_adapter("pirate")
    await engine.close()


async def test_a_broken_adapter_leaves_the_running_server(
    embedded: LlamaCppEngine, tmp_path: Path
) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match="or its adapters"):
        await embedded.add_adapter("broken", tmp_path / "broken.gguf")
    with pytest.raises(InputError, match="already"):
        await embedded.add_adapter("pirate", tmp_path / "broken.gguf")
    assert embedded.adapters == ("pirate", "butler")
    assert await said(embedded, QUESTIONS[0], "pirate", Sampling(temperature=0, max_tokens=4))


def test_the_same_adapter_is_written_once(folders: dict[str, Path], model_home: Path) -> None:
    gguf = ModelFolder(model_home / "models" / "smollm2-135m").gguf_of("f16")
    first = adapter_for_llamacpp(read_adapter(folders["pirate"]), gguf)
    written = first.stat().st_mtime_ns
    assert adapter_for_llamacpp(read_adapter(folders["pirate"]), gguf) == first
    assert first.stat().st_mtime_ns == written
    assert adapter_for_llamacpp(read_adapter(folders["butler"]), gguf) != first


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"use_dora": True}, Unsupported, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, Unsupported, "modules_to_save"),
        ({"bias": "all"}, Unsupported, "bias"),
    ],
)
def test_what_llama_cpp_cannot_do_is_refused(
    folders: dict[str, Path],
    tmp_path: Path,
    model_home: Path,
    change: dict[str, Any],
    error: type[Exception],
    sentence: str,
) -> None:
    folder = Path(shutil.copytree(folders["pirate"], tmp_path / "copy"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(error, match=sentence):
        open_engine("smollm2-135m", LoadOptions(context=512, adapters=(("x", folder),)))


def test_matrices_that_are_not_known_or_do_not_fit_are_refused(
    folders: dict[str, Path], tmp_path: Path, model_home: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(folders["pirate"], tmp_path / "copy"))
    weights = load_file(folder / "adapter_model.safetensors")

    def opened(changed: dict[str, Any]) -> None:
        save_file(changed, folder / "adapter_model.safetensors")
        open_engine("smollm2-135m", LoadOptions(context=512, adapters=(("x", folder),)))

    embedding = {
        "base_model.model.model.embed_tokens.lora_embedding_A": next(iter(weights.values()))
    }
    with pytest.raises(Unsupported, match="embed_tokens"):
        opened({**weights, **embedding})
    key = next(key for key in weights if "lora_B" in key)
    with pytest.raises(ModelFileError, match="does not fit this model"):
        opened({**weights, key: weights[key][:-2].copy()})
    with pytest.raises(ModelFileError, match="lacks matrices"):
        opened({name: weight for name, weight in weights.items() if name != key})
    (folder / "adapter_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match="cannot be read"):
        open_engine("smollm2-135m", LoadOptions(context=512, adapters=(("x", folder),)))
