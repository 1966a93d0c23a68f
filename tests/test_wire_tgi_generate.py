"""TGI's generate routes, asked by unmodified clients."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from text_generation import AsyncClient, Client
from wire_server import Running, hub, saying, wire_server

from chatkit.engine import Chance, WrittenToken
from chatkit.engines.scripted import Script, ScriptedEngine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TALE = "Once 👩‍🚀 said:\u2028naïve £5 — 日本. END and more"


def echo(question: str) -> str:
    return f"You said: {question}"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    script = Script(answer=lambda text: TALE if text == "tale" else echo(text))
    with wire_server(ScriptedEngine(script)) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Client:
    return Client(server.url)


def test_the_root_answers_with_a_list_and_generate_with_an_object(server: Running) -> None:
    body = {"inputs": "hi", "parameters": {"return_full_text": False}}
    assert server.post("/", body).json() == [{"generated_text": "You said: hi"}]
    assert server.post("/generate", body).json() == {"generated_text": "You said: hi"}


def test_the_python_client_gets_text_and_details(client: Client) -> None:
    answer = client.generate("hi", max_new_tokens=50)
    assert answer.generated_text == "You said: hi"
    assert answer.details.finish_reason == "eos_token"
    assert answer.details.prefill == []
    assert answer.details.generated_tokens == len(answer.details.tokens) == 13
    assert answer.details.tokens[-1].special and answer.details.tokens[-1].text == "<|im_end|>"


def test_details_are_there_only_when_asked_for(server: Running) -> None:
    details = {"inputs": "hi", "parameters": {"details": True}}
    assert server.post("/generate", details).json()["details"]["finish_reason"] == "eos_token"
    assert "details" not in server.post("/generate", {"inputs": "hi"}).json()


def test_the_python_client_streams_to_a_last_event_with_everything(client: Client) -> None:
    *before, last = client.generate_stream("hi", max_new_tokens=50)
    assert all(one.generated_text is None and one.details is None for one in before)
    assert "".join(one.token.text for one in before) == last.generated_text == "You said: hi"
    assert last.token.special and last.details.finish_reason == "eos_token"
    assert last.details.generated_tokens == len(before) + 1


def test_the_asynchronous_client_does_the_same(server: Running) -> None:
    async def ask() -> tuple[str, list[str]]:
        client = AsyncClient(server.url)
        answer = await client.generate("hi", max_new_tokens=50)
        pieces = [one.token.text async for one in client.generate_stream("hi", max_new_tokens=50)]
        return answer.generated_text, pieces

    text, pieces = asyncio.run(ask())
    assert text == "You said: hi" and "".join(pieces[:-1]) == text


def test_events_are_numbered_and_have_tgis_keys(server: Running) -> None:
    events = server.events("/generate_stream", {"inputs": "hi", "parameters": {"details": True}})
    assert [one["index"] for one in events] == list(range(1, 14))
    assert set(events[0]) == {"index", "token", "generated_text", "details"}
    assert set(events[0]["token"]) == {"id", "text", "logprob", "special"}
    assert events[-1]["details"]["input_length"] == 2


def test_a_last_event_without_details_asked_for_has_none(server: Running) -> None:
    *_, last = server.events("/generate_stream", {"inputs": "hi", "parameters": {}})
    assert last["generated_text"] == "You said: hi" and last["details"] is None


def test_parameters_may_be_empty_missing_or_as_the_client_sends_them(server: Running) -> None:
    nulls = dict.fromkeys(
        (
            "best_of",
            "max_new_tokens",
            "repetition_penalty",
            "frequency_penalty",
            "seed",
            "temperature",
            "top_k",
            "top_p",
            "truncate",
            "typical_p",
            "top_n_tokens",
            "grammar",
        )
    )
    client = {**nulls, "stop": [], "details": True, "do_sample": False, "watermark": False}
    for extra in ({}, {"parameters": {}}, {"parameters": {**client, "unknown": 1}}):
        answer = server.post("/generate", {"inputs": "hi", **extra}).json()
        assert answer["generated_text"] == "You said: hi"


def test_without_any_parameters_chance_decides(server: Running) -> None:
    drawn = server.post("/generate", {"inputs": "hi"})
    told = server.post("/generate", {"inputs": "hi", "parameters": {"details": True}})
    assert drawn.ok and told.json()["details"]["seed"] is None


def test_a_seed_is_told_only_when_chance_decides(server: Running) -> None:
    def seed(**parameters: object) -> int | None:
        body = {"inputs": "hi", "parameters": {"details": True, **parameters}}
        return server.post("/generate", body).json()["details"]["seed"]

    assert seed(seed=42) is None
    assert seed(seed=42, do_sample=True) == 42
    assert seed(seed=2**60, do_sample=True) == 2**60
    assert isinstance(seed(temperature=0.5), int)
    assert isinstance(seed(top_k=5), int) and isinstance(seed(top_p=0.5), int)


def test_the_root_repeats_the_prompt_unless_told_not_to(server: Running) -> None:
    client = hub(server.url)
    assert client.text_generation("hi") == "hiYou said: hi"
    assert client.text_generation("hi", return_full_text=False) == "You said: hi"
    last = server.events("/", {"inputs": "hi", "stream": True})[-1]
    assert last["generated_text"] == "hiYou said: hi"
    body = {"inputs": "hi", "parameters": {"return_full_text": True}}
    assert server.post("/generate", body).json()["generated_text"] == "hiYou said: hi"


def test_the_hubs_client_streams_tokens(server: Running) -> None:
    client = hub(server.url)
    pieces = list(client.text_generation("hi", stream=True, return_full_text=False))
    assert "".join(pieces) == "You said: hi<|im_end|>"


def test_a_stop_string_ends_the_answer_and_stays_in_it(client: Client) -> None:
    answer = client.generate("tale", max_new_tokens=500, stop_sequences=["END", "never"])
    assert answer.details.finish_reason == "stop_sequence"
    assert answer.generated_text == TALE.removesuffix(" and more")
    *_, last = client.generate_stream("tale", max_new_tokens=500, stop_sequences=["END"])
    assert last.generated_text == answer.generated_text
    assert last.details.finish_reason == "stop_sequence"


def test_the_length_ends_an_answer_also_where_it_would_have_ended_anyway(client: Client) -> None:
    cut = client.generate("hi", max_new_tokens=3)
    assert (cut.generated_text, cut.details.finish_reason) == ("You", "length")
    assert cut.details.generated_tokens == 3
    last_is_the_end = client.generate("hi", max_new_tokens=13)
    assert last_is_the_end.details.finish_reason == "length"
    *_, last = client.generate_stream("hi", max_new_tokens=3)
    assert last.generated_text == "You" and last.details.finish_reason == "length"


def test_characters_are_never_cut(server: Running) -> None:
    body = {"inputs": "tale", "parameters": {"max_new_tokens": 500}}
    texts = [one["token"] for one in server.events("/generate_stream", body)]
    assert "".join(one["text"] for one in texts if not one["special"]) == TALE
    assert not any("\ufffd" in one["text"] for one in texts)
    assert any(one["text"] == "" for one in texts)


def test_frames_are_one_line_each_with_a_space_and_no_done(server: Running) -> None:
    content = server.post("/generate_stream", {"inputs": "tale", "parameters": {}}).content
    *frames, rest = content.split(b"\n\n")
    assert rest == b""
    assert all(one.startswith(b"data: {") and one.count(b"\n") == 0 for one in frames)
    assert b"[DONE]" not in content


def test_a_line_separator_survives_both_clients(server: Running, client: Client) -> None:
    *_, last = client.generate_stream("tale", max_new_tokens=500)
    assert last.generated_text == TALE
    pieces = hub(server.url).text_generation("tale", stream=True, max_new_tokens=500)
    assert "".join(pieces) == TALE + "<|im_end|>"


def test_the_likeliest_tokens_are_told_when_asked_for(client: Client, server: Running) -> None:
    answer = client.generate("hi", max_new_tokens=5, top_n_tokens=1)
    assert [one[0].text for one in answer.details.top_tokens] == list("You s")
    body = {"inputs": "hi", "parameters": {"top_n_tokens": 1}}
    assert server.events("/generate_stream", body)[0]["top_tokens"][0]["text"] == "Y"
    plain = {"inputs": "hi", "parameters": {"details": True}}
    assert "top_tokens" not in server.post("/generate", plain).json()["details"]


def test_the_prompts_tokens_are_told_when_asked_for(client: Client) -> None:
    answer = client.generate("hi<|im_end|>", max_new_tokens=2, decoder_input_details=True)
    assert [one.text for one in answer.details.prefill] == ["h", "i", "<|im_end|>"]
    assert answer.details.prefill[0].logprob is None


def test_the_best_of_two_answers_is_given_and_the_other_told() -> None:
    with wire_server(_Doubting()) as server:
        body = {"inputs": "hi", "parameters": {"best_of": 2, "do_sample": True, "details": True}}
        answer = server.post("/generate", body).json()
    details = answer["details"]
    (other,) = details["best_of_sequences"]
    assert {answer["generated_text"], other["generated_text"]} == {"1", "2"}
    assert details["tokens"][0]["logprob"] > other["tokens"][0]["logprob"]


class _Doubting(ScriptedEngine):
    """Is surer of its second answer than of its first."""

    def __init__(self) -> None:
        self.count = 0
        super().__init__(Script(answer=self._next))

    def _next(self, _: str) -> str:
        self.count += 1
        return str(self.count)

    async def stream(self, prompt, sampling, adapter=None):  # type: ignore[no-untyped-def, override]
        async for delta in super().stream(prompt, sampling, adapter):
            doubt = -1.0 / self.count
            tokens = tuple(
                WrittenToken(one.id, doubt, (Chance(one.id, doubt),)) for one in delta.tokens
            )
            yield type(delta)(delta.text, delta.finish, delta.usage, tokens)


def test_truncating_keeps_the_end_of_the_prompt(server: Running) -> None:
    body = {"inputs": "abcdef", "parameters": {"truncate": 2, "details": True}}
    assert server.post("/generate", body).json()["generated_text"] == "You said: ef"


def test_tokens_are_told_with_their_places(server: Running) -> None:
    tokens = server.post("/tokenize", {"inputs": "hé<|im_end|>"}).json()
    assert tokens[0]["text"] == "h"
    assert tokens[-1] == {"id": 257, "text": "<|im_end|>", "start": 2, "stop": 12}


def test_headers_tell_what_an_answer_took(server: Running) -> None:
    body = {"inputs": "hé", "parameters": {"details": True}}
    reply = server.post("/generate", body)
    details = reply.json()["details"]
    assert reply.headers["x-prompt-tokens"] == "3"
    assert reply.headers["x-generated-tokens"] == str(details["generated_tokens"])
    assert reply.headers["x-compute-characters"] == "2"
    for name in ("total", "validation", "queue", "inference"):
        assert reply.headers[f"x-{name}-time"].isdigit()
    assert reply.headers["x-time-per-token"].isdigit()
    assert float(reply.headers["x-compute-time"]) >= 0


def test_streams_are_not_held_back_by_anyone(server: Running) -> None:
    headers = server.post("/generate_stream", {"inputs": "hi"}).headers
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers


@pytest.mark.lengthy
def test_the_first_token_arrives_before_the_second_is_written() -> None:
    engine = saying("abc", token_seconds=0.5)
    with wire_server(engine) as server, server.connect() as connection:
        body = json.dumps({"inputs": "x", "parameters": {}}).encode()
        head = f"POST /generate_stream HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        seen = b""
        while b"data: " not in seen:
            seen += connection.recv(4096)
        assert engine.tokens_written == 1
