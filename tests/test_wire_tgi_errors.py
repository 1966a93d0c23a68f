"""What goes wrong while a request is answered, and that its place is free again afterwards."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from text_generation import AsyncClient, Client
from text_generation.errors import (
    GenerationError,
    IncompleteGenerationError,
    OverloadedError,
    UnknownError,
)
from wire_server import Running, saying, until, wire_server

from chatkit.engines.scripted import ScriptedEngine
from chatkit.errors import Overloaded

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}
LONG = "a long story " * 300


@pytest.fixture
def slow() -> Iterator[Running]:
    """One request at a time, of an engine that writes for a long while."""
    with wire_server(saying(LONG, token_seconds=0.01), max_concurrent_requests=1) as running:
        yield running


def raw_request(path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def begin_stream(server: Running) -> socket.socket:
    """Begin a stream and wait for its first token."""
    connection = server.connect()
    connection.sendall(raw_request("/generate_stream", {"inputs": "x", "parameters": {}}))
    seen = b""
    while b"data: " not in seen:
        seen += connection.recv(4096)
    return connection


def test_one_request_too_many_is_refused_at_once(slow: Running) -> None:
    with begin_stream(slow):
        reply = slow.post("/generate", {"inputs": "x"})
        assert (reply.status_code, reply.json()) == (429, OVERLOADED)
        assert int(reply.headers["retry-after"]) >= 1
        assert slow.events("/generate_stream", {"inputs": "x"}) == [OVERLOADED]


def test_the_python_clients_raise_that_it_is_overloaded(slow: Running) -> None:
    async def ask() -> None:
        async for _ in AsyncClient(slow.url).generate_stream("x"):
            pass

    with begin_stream(slow):
        with pytest.raises(OverloadedError):
            Client(slow.url).generate("x")
        with pytest.raises(OverloadedError):
            list(Client(slow.url).generate_stream("x"))
        with pytest.raises(OverloadedError):
            asyncio.run(ask())


def test_an_engine_that_has_too_much_to_do_says_when_to_come_again() -> None:
    class Full(ScriptedEngine):
        async def stream(self, *_: object, **__: object):  # type: ignore[no-untyped-def, override]
            raise Overloaded("Too many wait; come again.", 7)
            yield

    with wire_server(Full()) as server:
        reply = server.post("/generate", {"inputs": "x"})
    assert reply.status_code == 429 and reply.headers["retry-after"] == "7"


def test_an_engine_that_fails_is_424_and_in_a_stream_the_last_event() -> None:
    with wire_server(saying("hello", fail_after=3)) as server:
        reply = server.post("/generate", {"inputs": "x"})
        *tokens, error = server.events("/generate_stream", {"inputs": "x"})
        with pytest.raises(GenerationError, match="failed after 3 tokens"):
            Client(server.url).generate("x")
        with pytest.raises(GenerationError):
            list(Client(server.url).generate_stream("x"))
    assert reply.status_code == 424
    assert reply.json()["error"].startswith("Request failed during generation: scripted: failed")
    assert reply.json()["error_type"] == error["error_type"] == "generation"
    assert [one["token"]["text"] for one in tokens] == list("hel")


class _Silent(ScriptedEngine):
    """Ends without saying why."""

    async def stream(self, prompt, sampling, adapter=None):  # type: ignore[no-untyped-def, override]
        async for delta in super().stream(prompt, sampling, adapter):
            if delta.finish:
                return
            yield delta


def test_an_answer_without_an_end_is_incomplete() -> None:
    with wire_server(_Silent()) as server:
        reply = server.post("/generate", {"inputs": "x"})
        *_, error = server.events("/generate_stream", {"inputs": "x"})
        with pytest.raises(IncompleteGenerationError):
            Client(server.url).generate("x")
        with pytest.raises(UnknownError, match="Incomplete generation stream"):
            list(Client(server.url).generate_stream("x"))
    assert (reply.status_code, reply.json()) == (
        500,
        {"error": "Incomplete generation", "error_type": "incomplete_generation"},
    )
    assert error["error_type"] == "incomplete_generation_stream"


@pytest.mark.lengthy
def test_a_place_is_free_again_after_success_error_and_refusal() -> None:
    with wire_server(saying("hello", fail_after=3), max_concurrent_requests=2) as server:
        for _ in range(6):
            server.post("/generate", {"inputs": "x"})
            server.post("/generate", {"inputs": "x", "parameters": {"temperature": 0}})
            server.events("/generate_stream", {"inputs": "x"})
        body = {"inputs": "x", "parameters": {"max_new_tokens": 2}}
        assert server.post("/generate", body).json() == {"generated_text": "he"}
        assert server.service.permits.taken == 0


@pytest.mark.lengthy
def test_a_client_that_leaves_a_stream_stops_the_writing(slow: Running) -> None:
    engine = slow.service.engine
    assert isinstance(engine, ScriptedEngine)
    for _ in range(3):
        begin_stream(slow).close()
        until(lambda: slow.service.permits.taken == 0)
        written = engine.tokens_written
        time.sleep(0.1)
        assert engine.tokens_written <= written + 1
        assert engine.admission.running == 0
    assert 'tgi_request_failure{err="dropped"} 3.0' in slow.get("/metrics").text


def test_a_client_that_leaves_before_the_whole_answer_stops_the_writing(slow: Running) -> None:
    connection = slow.connect()
    connection.sendall(raw_request("/generate", {"inputs": "x"}))
    until(lambda: slow.service.permits.taken == 1)
    connection.close()
    until(lambda: slow.service.permits.taken == 0)
    assert 'tgi_request_failure{err="dropped"} 1.0' in slow.get("/metrics").text


def test_a_client_that_only_stops_sending_is_gone_too(slow: Running) -> None:
    with begin_stream(slow) as connection:
        connection.shutdown(socket.SHUT_WR)
        until(lambda: slow.service.permits.taken == 0)


@pytest.mark.lengthy
def test_the_asynchronous_clients_timeout_frees_the_place(slow: Running) -> None:
    async def ask() -> None:
        async for _ in AsyncClient(slow.url, timeout=1).generate_stream("x", max_new_tokens=900):
            pass

    with pytest.raises(TimeoutError):
        asyncio.run(ask())
    until(lambda: slow.service.permits.taken == 0)


@pytest.mark.lengthy
def test_the_synchronous_clients_timeout_is_for_each_gap() -> None:
    with wire_server(saying(LONG, token_seconds=0.05)) as server:
        begun = time.monotonic()
        pieces = list(Client(server.url, timeout=3).generate_stream("x", max_new_tokens=70))
    assert pieces[-1].details.finish_reason == "length" and time.monotonic() - begun > 3


@pytest.mark.lengthy
def test_a_silent_stream_says_that_it_is_alive() -> None:
    engine = saying("ab", reading_seconds=0.8)
    with wire_server(engine, keep_alive_seconds=0.2) as server:
        content = server.post("/generate_stream", {"inputs": "x"}).content
        pieces = list(Client(server.url).generate_stream("x"))
    assert content.startswith(b":\n\n") and content.count(b"data: ") == 3
    assert pieces[-1].generated_text == "ab"


@pytest.mark.lengthy
def test_a_head_that_comes_slowly_is_cut_off() -> None:
    with wire_server(patience_seconds=0.5) as server:
        with server.connect() as connection:
            connection.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\n")
            assert connection.recv(100) == b""
        assert server.still_answers()


@pytest.mark.lengthy
def test_a_connection_that_says_nothing_is_cut_off() -> None:
    with wire_server(patience_seconds=0.5) as server:
        with server.connect() as connection:
            assert connection.recv(100) == b""
        assert server.still_answers()


@pytest.mark.lengthy
def test_a_body_that_comes_slowly_is_cut_off() -> None:
    with wire_server(patience_seconds=0.5) as server:
        with server.connect() as connection:
            whole = raw_request("/generate", {"inputs": "x"})
            connection.sendall(whole[:-3])
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
        assert server.still_answers()


def test_a_client_that_leaves_in_its_own_request_harms_nobody(slow: Running) -> None:
    whole = raw_request("/generate", {"inputs": "x"})
    for part in (whole[:20], whole[:-3], b"\x00\xff\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with slow.connect() as connection:
            connection.sendall(part)
    assert slow.get("/health").status_code == 200


@pytest.mark.slow
@pytest.mark.lengthy
def test_a_thousand_requests_too_many_are_all_refused() -> None:
    many, results = 1000, []
    engine = saying(LONG, token_seconds=0.01)
    with wire_server(engine, max_concurrent_requests=4) as server:
        held = [begin_stream(server) for _ in range(4)]

        def ask(count: int) -> None:
            with requests.Session() as session:
                for _ in range(count):
                    reply = session.post(server.url + "/generate", json={"inputs": "x"}, timeout=60)
                    results.append(reply.status_code)

        open_ones = [server.connect() for _ in range(400)]
        threads = [threading.Thread(target=ask, args=(many // 10,)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for connection in (*open_ones, *held):
            connection.close()
        until(lambda: server.service.permits.taken == 0)
        assert results == [429] * many
        body = {"inputs": "x", "parameters": {"max_new_tokens": 6}}
        assert server.post("/generate", body).json() == {"generated_text": "a long"}
