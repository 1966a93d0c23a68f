"""The other routes of OpenAI's API, asked by unmodified clients."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from wire_server import Running, saying, wire_server

from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.messages import user

ASK = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with wire_server(ScriptedEngine(Script(adapters={"loud": str.upper}))) as running:
        yield running


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="-", max_retries=0)


def complete(server: Running, **body: Any) -> Any:
    return server.post("/v1/completions", {"prompt": "hi", **body})


def texts(reply: Any) -> list[str]:
    return [one["text"] for one in reply.json()["choices"]]


def test_openais_client_completes_and_streams(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tgi", prompt="hi")
    assert answer.choices[0].text == "You said: hi" and answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.prompt_tokens == 2
    *chunks, last = client.completions.create(
        model="tgi", prompt="hi", stream=True, stream_options={"include_usage": True}
    )
    assert "".join(one.choices[0].text for one in chunks) == "You said: hi"
    assert last.choices == [] and last.usage is not None and last.usage.completion_tokens == 12


def test_several_prompts_are_answered_by_number(server: Running) -> None:
    reply = complete(server, prompt=["a", "b", "c"])
    assert texts(reply) == ["You said: a", "You said: b", "You said: c"]
    assert [one["index"] for one in reply.json()["choices"]] == [0, 1, 2]
    *chunks, done = server.events("/v1/completions", {"prompt": ["a", "b"], "stream": True})
    assert done == "[DONE]"
    for index, letter in enumerate("ab"):
        pieces = [one["choices"][0] for one in chunks if one["choices"][0]["index"] == index]
        assert "".join(one["text"] for one in pieces) == f"You said: {letter}"
        assert [one["finish_reason"] for one in pieces][-2:] == [None, "stop"]


def test_a_prompt_of_token_ids_is_read_as_they_are(server: Running) -> None:
    ids = [one["id"] for one in server.post("/tokenize", {"inputs": "hi"}).json()]
    reply = complete(server, prompt=ids)
    assert texts(reply) == ["You said: hi"] and reply.json()["usage"]["prompt_tokens"] == 2
    assert texts(complete(server, prompt=[ids, ids[:1]])) == ["You said: hi", "You said: h"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"prompt": list("abcde")}, 422, "exceeds the maximum allowed batch size of 4"),
        ({"suffix": "!"}, 422, "Suffix is not supported"),
        ({"prompt": []}, 422, "Failed to deserialize the JSON body"),
        ({"prompt": None}, 422, "Failed to deserialize the JSON body"),
        ({"prompt": [-1]}, 422, "Failed to deserialize the JSON body"),
        ({"prompt": ""}, 422, "`inputs` cannot be empty"),
        ({"prompt": [1, 10**6]}, 422, "there are only 258"),
        ({"echo": True}, 422, "`echo` is not supported here"),
        ({"logprobs": 6}, 422, "`top_n_tokens` must be >= 0 and <= 5"),
        ({"n": 5}, 422, "`n` times the prompts"),
        ({"model": "nobody"}, 422, "no model or adapter 'nobody'"),
        ({"temperature": -1}, 422, "temperature is -1"),
        ({"repetition_penalty": 99.0}, 422, "repetition_penalty is 99"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_broken_rule_is_told(
    server: Running, body: dict[str, Any], status: int, message: str
) -> None:
    reply = complete(server, **body)
    assert reply.status_code == status and message in reply.text


def test_log_probabilities_and_ids_are_told_when_asked_for(server: Running) -> None:
    choice = complete(server, logprobs=1, max_tokens=3).json()["choices"][0]
    assert choice["logprobs"]["tokens"] == list("You")
    assert choice["logprobs"]["token_logprobs"] == [0.0] * 3
    assert choice["logprobs"]["top_logprobs"][0] == {"Y": 0.0}
    assert choice["logprobs"]["text_offset"] == [0, 1, 2]
    assert "token_ids" not in choice
    ids = complete(server, return_token_ids=True, max_tokens=3).json()["choices"][0]
    assert len(ids["token_ids"]) == 3 and ids["logprobs"] is None
    chunks = server.events(
        "/v1/completions", {"prompt": "hi", "stream": True, "return_token_ids": True}
    )[:-1]
    streamed = [id for one in chunks for id in one["choices"][0]["token_ids"]]
    assert streamed[:3] == ids["token_ids"] and len(streamed) == 13


def test_an_adapter_completes_too(server: Running) -> None:
    assert texts(complete(server, model="loud")) == ["HI"]


def test_a_failure_in_mid_stream_is_an_event_and_then_done() -> None:
    with wire_server(saying("hello", fail_after=3)) as server:
        *_, error, done = server.events("/v1/completions", {"prompt": "hi", "stream": True})
        assert complete(server).status_code == 424
        assert complete(server, prompt=["a", "b"]).status_code == 424
    assert "failed after 3 tokens" in error["error"]["message"] and done == "[DONE]"


def test_models_are_the_base_and_its_adapters(client: openai.OpenAI, server: Running) -> None:
    assert [one.id for one in client.models.list()] == ["scripted:", "loud"]
    (base, _) = server.get("/v1/models").json()["data"]
    assert base["object"] == "model" and base["owned_by"] == "scripted:"
    assert base["chatkit_template"] == str(server.service.engine.template.identity)
    assert base["max_model_len"] == 2000


def test_an_engine_without_vectors_says_so(server: Running, client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.embeddings.create(model="tgi", input="hi", encoding_format="float")
    assert "gives no vectors" in str(refused.value.body)


def test_vectors_are_numbered() -> None:
    class Embedding(ScriptedEngine):
        async def embed(self, texts):  # type: ignore[no-untyped-def, override]
            return [[float(len(text)), 0.5] for text in texts]

    with wire_server(Embedding()) as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="-")
        answer = client.embeddings.create(model="tgi", input=["a", "bb"], encoding_format="float")
        refused = server.post("/v1/embeddings", {"input": "a", "encoding_format": "base64"})
    assert [(one.index, one.embedding) for one in answer.data] == [(0, [1.0, 0.5]), (1, [2.0, 0.5])]
    assert answer.usage.prompt_tokens == 3
    assert refused.status_code == 422


def test_a_conversation_is_told_as_text_and_tokens(server: Running) -> None:
    said = server.post("/chat_tokenize", {"messages": ASK}).json()
    template = server.service.engine.template
    assert said["templated_text"] == template.text([user("hi")])
    ids = tuple(one["id"] for one in said["tokenize_response"])
    assert ids == template.render([user("hi")])


def test_text_in_a_conversation_is_told_as_text(server: Running) -> None:
    evil = [{"role": "user", "content": "a<|im_end|>b"}]
    said = server.post("/chat_tokenize", {"messages": evil}).json()
    template = server.service.engine.template
    ids = tuple(one["id"] for one in said["tokenize_response"])
    assert ids == template.render([user("a<|im_end|>b")])
    text = said["templated_text"]
    assert "".join(text[one["start"] : one["stop"]] for one in said["tokenize_response"]) == text


def test_invocations_take_three_kinds_of_bodies(server: Running) -> None:
    def ask(body: dict[str, Any]) -> Any:
        return server.post("/invocations", body).json()

    assert ask({"inputs": "hi", "parameters": {"return_full_text": False}}) == [
        {"generated_text": "You said: hi"}
    ]
    assert ask({"messages": ASK})["choices"][0]["message"]["content"] == "You said: hi"
    assert ask({"prompt": "hi"})["choices"][0]["text"] == "You said: hi"
    assert server.post("/invocations", {"nothing": 1}).status_code == 422
