"""The `tgi:` and `openai:` engines against real servers: ours, and llama.cpp's own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from wire_server import Running, saying, until, wire_server

from chatkit.engine import Delta, Engine, complete
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.opening import LoadOptions, open_engine
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.errors import (
    EngineError,
    InputError,
    Overloaded,
    PromptTooLong,
    TemplateError,
    UnknownModel,
    Unsupported,
)
from chatkit.messages import user
from chatkit.prompt import Prompt, build_prompt, raw_prompt
from chatkit.sampling import Sampling

pytestmark = pytest.mark.anyio
GREEDY = Sampling(temperature=0, max_tokens=60)
TALE = "naïve 日本 👩‍🚀 and more than that"


def shout(question: str) -> str:
    return question.upper()


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    script = Script(answer=lambda text: TALE if "tale" in text else text, adapters={"loud": shout})
    with wire_server(ScriptedEngine(script)) as running:
        yield running


def open_remote(kind: str, running: Running, **options: Any) -> Engine:
    url = f"tgi:{running.url}" if kind == "tgi" else f"openai:{running.url}/scripted:#scripted:"
    return open_engine(url, LoadOptions(**options))


@pytest.fixture(params=["tgi", "openai"])
async def engine(request: pytest.FixtureRequest, served: Running) -> AsyncIterator[Engine]:
    opened = await asyncio.to_thread(open_remote, request.param, served)
    yield opened
    await opened.close()


def ask(engine: Engine, text: str) -> Prompt:
    return build_prompt(engine.template, [user(text)])


async def deltas(engine: Engine, prompt: Prompt, sampling: Sampling) -> list[Delta]:
    return [delta async for delta in engine.stream(prompt, sampling)]


async def test_the_answer_comes_in_pieces_and_its_end_says_what_it_took(engine: Engine) -> None:
    prompt = ask(engine, "tale")
    *before, last = await deltas(engine, prompt, GREEDY)
    assert "".join(one.text for one in (*before, last)) == TALE
    assert all(one.finish is None and one.usage is None for one in before)
    assert last.finish == "stop" and last.usage is not None
    assert last.usage.prompt_tokens == len(prompt.ids)
    assert last.usage.completion_tokens >= len(TALE.encode())
    assert 0 < last.usage.first_token_seconds <= last.usage.total_seconds


async def test_the_server_reads_exactly_our_token_ids(engine: Engine, served: Running) -> None:
    prompt = ask(engine, "1234 naïve\n\n 日本")
    text, last = await complete(engine, prompt, Sampling(temperature=0, max_tokens=200))
    # The script repeats what it was given; control tokens are not part of an answer's text.
    assert text == served.service.writer.tokenizer.decode(prompt.ids) or text == prompt.text
    assert last.usage is not None and last.usage.prompt_tokens == len(prompt.ids)


async def test_a_stop_string_ends_the_answer_and_is_not_shown(engine: Engine) -> None:
    sampling = GREEDY.model_copy(update={"stop": ("and",)})
    text, last = await complete(engine, ask(engine, "tale"), sampling)
    assert text == TALE.partition("and")[0] and last.finish == "stop"


async def test_the_length_ends_an_answer(engine: Engine) -> None:
    text, last = await complete(engine, ask(engine, "tale"), Sampling(max_tokens=4))
    assert TALE.startswith(text) and last.finish == "length"
    assert last.usage is not None and last.usage.completion_tokens == 4


async def test_an_adapter_is_chosen_by_name_and_an_unknown_one_refused(engine: Engine) -> None:
    assert engine.adapters == ("loud",)
    prompt = raw_prompt(engine.template.tokenizer, "hello")
    pieces = [one.text async for one in engine.stream(prompt, GREEDY, "loud")]
    assert "".join(pieces) == "HELLO"
    with pytest.raises(Unsupported, match="no adapter 'nobody'"):
        async for _ in engine.stream(prompt, GREEDY, "nobody"):
            pass


async def test_tokens_are_told_when_they_are_asked_for(engine: Engine) -> None:
    told = await deltas(engine, ask(engine, "tale"), GREEDY.model_copy(update={"logprobs": 1}))
    tokens = [token for one in told for token in one.tokens]
    assert engine.template.tokenizer.decode([token.id for token in tokens]) == TALE
    assert tokens[0].logprob == 0.0 and tokens[0].likeliest[0].id == tokens[0].id
    plain = await deltas(engine, ask(engine, "tale"), GREEDY)
    assert not any(one.tokens for one in plain)


async def test_requests_at_once_do_not_mix(engine: Engine) -> None:
    prompts = [raw_prompt(engine.template.tokenizer, f"number {n}") for n in range(12)]
    answers = await asyncio.gather(*(complete(engine, prompt, GREEDY) for prompt in prompts))
    assert [text for text, _ in answers] == [f"number {n}" for n in range(12)]


async def test_health_returns_while_the_server_works(engine: Engine) -> None:
    await engine.health()


async def test_a_prompt_that_does_not_fit_is_refused_here(engine: Engine) -> None:
    with pytest.raises(PromptTooLong):
        await complete(engine, ask(engine, "x" * 3000), GREEDY)


@pytest.mark.lengthy
@pytest.mark.parametrize("kind", ["tgi", "openai"])
async def test_closing_stops_the_writing_at_the_server(kind: str) -> None:
    slow = saying("a long story " * 300, token_seconds=0.01)
    with wire_server(slow) as running:
        engine = await asyncio.to_thread(open_remote, kind, running)
        stream = engine.stream(ask(engine, "x"), Sampling(max_tokens=900))
        await anext(stream)
        await stream.aclose()
        await asyncio.to_thread(until, lambda: running.service.permits.taken == 0)
        written = slow.tokens_written
        await asyncio.sleep(0.1)
        assert slow.tokens_written <= written + 1
        await engine.close()


@pytest.mark.parametrize("kind", ["tgi", "openai"])
async def test_a_failure_leaves_the_text_and_says_what_happened(kind: str) -> None:
    with wire_server(saying("hello", fail_after=3)) as running:
        engine = await asyncio.to_thread(open_remote, kind, running)
        heard = []
        with pytest.raises(EngineError, match="failed after 3 tokens"):
            async for delta in engine.stream(ask(engine, "x"), GREEDY):
                heard.append(delta.text)
        assert "".join(heard) == "hel"
        text, _ = await complete(engine, ask(engine, "x"), Sampling(max_tokens=2))
        assert text == "he"
        await engine.close()


@pytest.mark.parametrize("kind", ["tgi", "openai"])
async def test_a_server_that_has_too_much_to_do_says_when_to_come_again(kind: str) -> None:
    slow = saying("x" * 900, token_seconds=0.01)
    with wire_server(slow, max_concurrent_requests=1) as running:
        engine = await asyncio.to_thread(open_remote, kind, running)
        stream = engine.stream(ask(engine, "x"), Sampling(max_tokens=900))
        await anext(stream)
        with pytest.raises(Overloaded):
            await complete(engine, ask(engine, "x"), GREEDY)
        await stream.aclose()
        await engine.close()


@pytest.mark.parametrize(("kind", "variable"), [("tgi", "TGI"), ("openai", "OPENAI")])
async def test_the_key_comes_from_the_environment_and_a_wrong_one_is_named(
    kind: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wire_server(api_key="right") as running:
        monkeypatch.setenv(f"CHATKIT_{variable}_API_KEY", "right")
        engine = await asyncio.to_thread(open_remote, kind, running)
        text, _ = await complete(engine, raw_prompt(engine.template.tokenizer, "x"), GREEDY)
        assert text == "You said: x"
        await engine.close()
        monkeypatch.setenv(f"CHATKIT_{variable}_API_KEY", "wr0ng")
        with pytest.raises(EngineError, match=f"set CHATKIT_{variable}_API_KEY") as refused:
            wrong = await asyncio.to_thread(open_remote, kind, running)
            await complete(wrong, ask(wrong, "x"), GREEDY)
        assert "wr0ng" not in str(refused.value)


@pytest.mark.model
async def test_another_template_is_refused_with_both_identities(
    served: Running, llamacpp: LlamaCppEngine, model_home: object
) -> None:
    ours, other = (str(e.template.identity) for e in (served.service.engine, llamacpp))
    for name in (f"tgi:{served.url}", f"openai:{served.url}/scripted:"):
        with pytest.raises(TemplateError, match=f"{ours} and this model's is {other}"):
            await asyncio.to_thread(open_engine, f"{name}#smollm2-135m")


def test_a_model_that_the_server_lacks_is_refused(served: Running) -> None:
    with pytest.raises(UnknownModel, match="no model 'nobody'; it has loud, scripted:"):
        open_engine(f"openai:{served.url}/nobody")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tgi:somewhere", "write tgi:http://HOST:PORT"),
        ("openai:http://host", "names no model"),
        ("openai:http://user:secret@host/model", "CHATKIT_OPENAI_API_KEY"),
    ],
)
def test_a_name_that_is_no_address_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        open_engine(name)


def test_how_it_is_loaded_is_the_servers_to_say(served: Running) -> None:
    with pytest.raises(Unsupported, match="the server's to say"):
        open_remote("tgi", served, quantize="int8")


async def test_a_control_token_in_a_message_is_refused_where_only_text_goes(
    served: Running,
) -> None:
    engine = await asyncio.to_thread(open_remote, "tgi", served)
    with pytest.raises(Unsupported, match=r"the control token <\|im_end\|>"):
        await complete(engine, ask(engine, "x<|im_end|>y"), GREEDY)
    await engine.close()


async def test_a_control_token_in_a_message_is_text_where_token_ids_go(served: Running) -> None:
    engine = await asyncio.to_thread(open_remote, "openai", served)
    prompt = ask(engine, "x<|im_end|>y")
    _, last = await complete(engine, prompt, GREEDY)
    assert last.usage is not None and last.usage.prompt_tokens == len(prompt.ids)
    await engine.close()


async def test_without_a_local_model_the_server_keeps_its_template(served: Running) -> None:
    engine = await asyncio.to_thread(open_engine, f"openai:{served.url}/scripted:")
    assert str(engine.template.identity) == "server:scripted:"
    prompt = ask(engine, "hello there")
    text, last = await complete(engine, prompt, GREEDY)
    assert text == "hello there"
    assert last.usage is not None and last.usage.prompt_tokens != len(prompt.ids)
    with pytest.raises(Unsupported, match=r"<\|im_end\|>"):
        await complete(engine, ask(engine, "x<|im_end|>y"), GREEDY)
    await engine.close()


async def test_tgi_refuses_what_its_wire_lacks(served: Running) -> None:
    engine = await asyncio.to_thread(open_remote, "tgi", served)
    for sampling, name in (
        (Sampling(min_p=0.1), "min_p"),
        (Sampling(presence_penalty=1), "presence_penalty"),
        (Sampling(stop=tuple("abcde")), "4 stop strings"),
        (Sampling(json_schema={"type": "object"}), "`properties`"),
    ):
        with pytest.raises(Unsupported, match=name):
            await complete(engine, ask(engine, "x"), sampling)
    await engine.close()


@pytest.fixture(scope="module")
def real(llamacpp: LlamaCppEngine) -> Iterator[Running]:
    with wire_server(llamacpp, model_id="smollm2-135m", max_total_tokens=4096) as running:
        yield running


@pytest.mark.model
@pytest.mark.parametrize("kind", ["tgi", "openai"])
async def test_the_same_model_says_the_same_over_each_wire(
    kind: str, real: Running, llamacpp: LlamaCppEngine, model_home: object
) -> None:
    name = {"tgi": f"tgi:{real.url}", "openai": f"openai:{real.url}/smollm2-135m#smollm2-135m"}
    engine = await asyncio.to_thread(open_engine, name[kind])
    assert engine.template.identity == llamacpp.template.identity
    for question in ("What is the capital of France?", "Write a haiku about winter. 冬"):
        prompt = ask(engine, question)
        here, _ = await complete(llamacpp, prompt, GREEDY)
        there, _ = await complete(engine, prompt, GREEDY)
        assert there == here
    bold = Sampling(temperature=0.9, seed=7, max_tokens=24)
    prompt = ask(engine, "Tell me a story.")
    # A prompt that is kept has other last bits than one that is read, and so some draws differ.
    await complete(llamacpp, prompt, GREEDY)
    assert await complete_text(engine, prompt, bold) == await complete_text(llamacpp, prompt, bold)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    bound = Sampling(temperature=0, max_tokens=40, json_schema=schema)
    prompt = ask(engine, "Name a city as JSON.")
    assert await complete_text(engine, prompt, bound) == await complete_text(
        llamacpp, prompt, bound
    )
    await engine.close()


async def complete_text(engine: Engine, prompt: Prompt, sampling: Sampling) -> str:
    return (await complete(engine, prompt, sampling))[0]


@pytest.mark.model
async def test_llama_cpps_own_server_says_the_same(
    llamacpp: LlamaCppEngine, model_home: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llamacpp_server import llamacpp_server

    with llamacpp_server() as url:
        engine = await asyncio.to_thread(
            open_engine, f"openai:{url}/smollm2#smollm2-135m", LoadOptions()
        )
        prompt = ask(engine, "What is the capital of France?")
        here, _ = await complete(llamacpp, prompt, GREEDY)
        there, last = await complete(engine, prompt, GREEDY)
        assert there == here
        assert last.usage is not None and last.usage.prompt_tokens == len(prompt.ids)
        chatting = await asyncio.to_thread(open_engine, f"openai:{url}/smollm2")
        assert (await complete_text(chatting, ask(chatting, "Say hi."), GREEDY)).strip()
        await engine.close()
        await chatting.close()
