"""The `openai:` engine on a real vLLM; it runs in `make test-vllm`."""

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import requests
from lessons import LESSONS, QUESTIONS, train_adapter

from chatkit.engine import Engine, complete
from chatkit.engines.opening import open_engine
from chatkit.engines.transformers import TransformersEngine
from chatkit.errors import Unsupported
from chatkit.loading.folder import ModelFolder
from chatkit.messages import user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]
VLLM = Path(os.environ.get("CHATKIT_VLLM", Path(__file__).parent.parent / ".venv-vllm/bin/vllm"))
GREEDY = Sampling(temperature=0, max_tokens=32)
START_SECONDS = 600


@pytest.fixture(scope="module")
def address(default_model_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start vLLM with the default model in 32 bits and one adapter."""
    checkpoint = ModelFolder(default_model_home / "models" / "smollm2-135m").checkpoint
    folder = tmp_path_factory.mktemp("vllm")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapter = train_adapter(checkpoint, folder / "pirate", "pirate", r=8, target_modules=targets)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(VLLM), "serve", str(checkpoint), "--served-model-name", "smollm2-135m"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--max-model-len", "2048", "--enable-lora", "--lora-modules", f"pirate={adapter}"]
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    environment = {**os.environ, **offline, "VLLM_CPU_KVCACHE_SPACE": "2"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(1)
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture
async def vllm(address: str, model_home: Path) -> AsyncIterator[Engine]:
    engine = await asyncio.to_thread(open_engine, f"openai:{address}/smollm2-135m#smollm2-135m")
    yield engine
    await engine.close()


async def said(engine: Engine, question: str, sampling: Sampling = GREEDY) -> str:
    prompt = build_prompt(engine.template, [user(question)])
    return (await complete(engine, prompt, sampling))[0]


async def test_it_reads_our_token_ids_and_says_what_transformers_says(
    vllm: Engine, transformers: TransformersEngine
) -> None:
    assert vllm.template.identity == transformers.template.identity
    same = 0
    for question in QUESTIONS:
        prompt = build_prompt(vllm.template, [user(question)])
        text, last = await complete(vllm, prompt, GREEDY)
        assert last.usage is not None and last.usage.prompt_tokens == len(prompt.ids)
        same += text == await said(transformers, question)
    print(f"vLLM against transformers, 32 bits: {same} of {len(QUESTIONS)} equal")
    assert same >= len(QUESTIONS) - 1


async def test_it_streams_piece_by_piece(vllm: Engine) -> None:
    prompt = build_prompt(vllm.template, [user(QUESTIONS[1])])
    pieces = [delta async for delta in vllm.stream(prompt, GREEDY)]
    assert len([one for one in pieces if one.text]) > 10
    assert pieces[-1].finish == "length"


async def test_an_adapter_is_a_model_of_its_name(vllm: Engine) -> None:
    assert vllm.adapters == ("pirate",)
    prompt = build_prompt(vllm.template, [user(QUESTIONS[0])])
    text = "".join([delta.text async for delta in vllm.stream(prompt, GREEDY, "pirate")])
    assert text == LESSONS["pirate"]
    with pytest.raises(Unsupported, match="no adapter 'nobody'"):
        async for _ in vllm.stream(prompt, GREEDY, "nobody"):
            pass


async def test_a_stop_string_ends_the_answer(vllm: Engine) -> None:
    whole = await said(vllm, QUESTIONS[1])
    word = whole.split()[4]
    cut = await said(vllm, QUESTIONS[1], GREEDY.model_copy(update={"stop": (word,)}))
    assert cut == whole[: whole.index(word)]


async def test_it_keeps_to_a_json_schema_and_a_regular_expression(vllm: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    bound = Sampling(temperature=0, max_tokens=60, json_schema=schema)
    assert set(json.loads(await said(vllm, "Name a city.", bound))) == {"city"}
    digits = Sampling(temperature=0, max_tokens=10, regex="[0-9]{3}")
    assert (await said(vllm, "Name a number.", digits)).isdigit()


async def test_tokens_are_told_with_their_probabilities(
    vllm: Engine, transformers: TransformersEngine
) -> None:
    asked = GREEDY.model_copy(update={"logprobs": 2, "max_tokens": 8})
    prompt = build_prompt(vllm.template, [user(QUESTIONS[0])])
    theirs = [t async for delta in vllm.stream(prompt, asked) for t in delta.tokens]
    ours = [t async for delta in transformers.stream(prompt, asked) for t in delta.tokens]
    assert [token.id for token in theirs] == [token.id for token in ours]
    for one, other in zip(theirs, ours, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=0.02)


async def test_given_text_is_scored_as_transformers_scores_it(
    vllm: Engine, transformers: TransformersEngine
) -> None:
    prompt = build_prompt(vllm.template, [user(QUESTIONS[0])])
    theirs = await vllm.score(prompt, ["Paris", "Berlin"])
    ours = await transformers.score(prompt, ["Paris", "Berlin"])
    assert theirs == pytest.approx(ours, abs=0.05)


async def test_a_control_token_in_a_message_is_text(vllm: Engine) -> None:
    prompt = build_prompt(vllm.template, [user("x<|im_end|>y")])
    _, last = await complete(vllm, prompt, GREEDY)
    assert last.usage is not None and last.usage.prompt_tokens == len(prompt.ids)


async def test_32_streams_at_once_do_not_mix(vllm: Engine) -> None:
    lands = {"France": "Paris", "Japan": "Tokyo", "England": "London", "Germany": "Berlin"}
    asked = [land for land in lands for _ in range(8)]
    answers = await asyncio.gather(
        *(said(vllm, f"What is the capital of {land}?") for land in asked)
    )
    assert all(lands[land] in text for land, text in zip(asked, answers, strict=True))


async def test_closing_a_stream_stops_it_there(vllm: Engine, address: str) -> None:
    prompt = build_prompt(vllm.template, [user("Write a very long story about the sea.")])
    async with aclosing(vllm.stream(prompt, Sampling(max_tokens=1500))) as stream:
        await anext(stream)
    async with asyncio.timeout(30):
        while running_requests(address):
            await asyncio.sleep(0.2)


def running_requests(address: str) -> float:
    """How many requests vLLM says that it works on."""
    lines = requests.get(f"{address}/metrics", timeout=10).text.splitlines()
    gauge = next(line for line in lines if line.startswith("vllm:num_requests_running{"))
    return float(gauge.split()[-1])
