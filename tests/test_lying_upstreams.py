"""Servers that lie, break off or hang: one sentence each, and the next request is answered."""

import asyncio
import datetime
import ipaddress
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from lying_server import (
    Handler,
    Lying,
    cut_after,
    in_turn,
    json_of,
    lying_server,
    stream_of,
    text_of,
)
from scripted_service import ScriptedModels

from chatkit.answering.options import AnswerOptions
from chatkit.engine import Engine, complete
from chatkit.engines.opening import open_engine
from chatkit.engines.remote import sessions, wire
from chatkit.engines.scripted import byte_tokenizer
from chatkit.errors import ChatkitError, EngineError, Overloaded, Unsupported
from chatkit.messages import user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling
from chatkit.service import open_chat_service
from chatkit.settings import settings
from chatkit.template import ChatTemplate

pytestmark = pytest.mark.anyio
SHORT = Sampling(temperature=0, max_tokens=20)
TEMPLATE = ChatTemplate(byte_tokenizer())
INFO = {
    "model_id": "scripted:",
    "max_input_tokens": 1000,
    "max_total_tokens": 2000,
    "max_stop_sequences": 4,
}


def tgi_token(text: str, final: str | None = None) -> str:
    details = {"finish_reason": "eos_token", "generated_tokens": 3, "seed": None}
    token = {"id": 5, "text": text, "logprob": -0.5, "special": False}
    ending = {"generated_text": final, "details": details if final else None}
    return json.dumps({"index": 1, "token": token, **ending})


def openai_token(text: str, finish: str | None = None) -> str:
    delta = {"role": "assistant", "content": text}
    choice = {"index": 0, "delta": delta, "text": text, "finish_reason": finish}
    return json.dumps({"choices": [choice]})


async def tokenize(request: Any) -> Any:
    """Read text as our own tokenizer does."""
    from aiohttp import web

    text = (await request.json())["inputs"]
    tokens = TEMPLATE.tokenizer.encode_raw(text)
    return web.json_response([{"id": token.id} for token in tokens])


class Upstream:
    """A server of one kind that first opens well, and then does what a test wants."""

    def __init__(self, kind: str, lying: Lying) -> None:
        self.kind = kind
        self.lying = lying
        self.path = "/generate_stream" if kind == "tgi" else "/v1/chat/completions"
        token = tgi_token if kind == "tgi" else openai_token
        self.token = token
        last = tgi_token("!", "Hi!") if kind == "tgi" else openai_token("!", "stop")
        self.whole = stream_of(token("Hi"), last)

    @property
    def name(self) -> str:
        return f"tgi:{self.lying.url}" if self.kind == "tgi" else f"openai:{self.lying.url}/model"

    def does(self, handler: Handler) -> None:
        self.lying.answers[self.path] = handler


@pytest.fixture(scope="module", params=["tgi", "openai"])
def upstream(request: pytest.FixtureRequest) -> Iterator[Upstream]:
    answers = {"/info": json_of(INFO), "/tokenize": tokenize}
    with lying_server(answers) as lying:
        yield Upstream(request.param, lying)


@pytest.fixture
async def engine(upstream: Upstream) -> AsyncIterator[Engine]:
    opened = await asyncio.to_thread(open_engine, upstream.name)
    yield opened
    await opened.close()


async def ask(engine: Engine) -> tuple[str, ChatkitError | None]:
    """Ask, and give what came before the error, if any."""
    heard: list[str] = []
    try:
        async for delta in engine.stream(build_prompt(engine.template, [user("x")]), SHORT):
            heard.append(delta.text)
    except ChatkitError as error:
        return "".join(heard), error
    return "".join(heard), None


async def fails(upstream: Upstream, engine: Engine, handler: Handler) -> tuple[str, ChatkitError]:
    """Let the server do something wrong; afterwards it answers again."""
    upstream.does(handler)
    text, error = await ask(engine)
    assert error is not None
    assert "Traceback" not in str(error) and str(error).endswith((".", "?"))
    upstream.does(upstream.whole)
    assert await ask(engine) == ("Hi!", None)
    return text, error


async def test_a_page_instead_of_a_stream(upstream: Upstream, engine: Engine) -> None:
    text, error = await fails(upstream, engine, text_of("<html>Welcome</html>"))
    assert text == "" and "text/html instead of a stream" in str(error)


@pytest.mark.parametrize("event", ["{oops", "[" * 5000], ids=["broken", "endlessly nested"])
async def test_an_event_that_is_no_json(upstream: Upstream, engine: Engine, event: str) -> None:
    text, error = await fails(upstream, engine, stream_of(upstream.token("Hi"), event))
    assert text == "Hi" and "no JSON" in str(error)


async def test_an_event_of_another_kind(upstream: Upstream, engine: Engine) -> None:
    _, error = await fails(upstream, engine, stream_of('{"hello": "world"}', "[1, 2]"))
    assert isinstance(error, EngineError)


async def test_a_stream_without_its_end(upstream: Upstream, engine: Engine) -> None:
    text, error = await fails(upstream, engine, stream_of(upstream.token("Hi")))
    assert text == "Hi" and "before it was whole" in str(error)


async def test_a_stream_that_says_done_too_early(upstream: Upstream, engine: Engine) -> None:
    text, error = await fails(upstream, engine, stream_of(upstream.token("Hi"), "[DONE]"))
    assert text == "Hi" and "before it was whole" in str(error)


async def test_a_connection_that_breaks_is_not_tried_again_once_something_came(
    upstream: Upstream, engine: Engine
) -> None:
    before = len(upstream.lying.asked.get(upstream.path, []))
    upstream.does(cut_after(upstream.token("a"), upstream.token("b"), upstream.token("c")))
    text, error = await ask(engine)
    assert text == "abc" and isinstance(error, EngineError)
    assert len(upstream.lying.asked[upstream.path]) == before + 1


async def test_a_stream_without_an_end(upstream: Upstream, engine: Engine) -> None:
    text, error = await fails(upstream, engine, stream_of(upstream.token("x"), forever=True))
    assert 20 <= len(text) <= 22 and "writes more than it was asked for" in str(error)


@pytest.mark.lengthy
async def test_a_line_without_an_end(
    upstream: Upstream, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, error = await fails(upstream, engine, stream_of('{"x": "' + "y" * (2**25) + '"}'))
    assert isinstance(error, EngineError)


async def test_an_error_in_the_stream(upstream: Upstream, engine: Engine) -> None:
    said = '{"error": "the card burns", "error_type": "generation"}'
    text, error = await fails(upstream, engine, stream_of(upstream.token("Hi"), said))
    assert text == "Hi" and "the card burns" in str(error)


@pytest.mark.parametrize(
    ("handler", "kind", "sentence"),
    [
        (json_of({"error": "x"}, 429, **{"Retry-After": "7"}), Overloaded, "too much to do"),
        (json_of({}, 401), EngineError, "does not accept the key"),
        (text_of("", "text/plain", 401), EngineError, "does not accept the key"),
        (json_of({"error": "bad top_p"}, 422), Unsupported, "bad top_p"),
        (json_of({"error": {"message": "bad n"}}, 400), Unsupported, "bad n"),
        (json_of({"detail": "broken"}, 500), EngineError, "answered 500 (broken)"),
        (text_of("nope", status=500), EngineError, "answered 500 (nope)"),
        (text_of("", status=404), EngineError, "has no "),
        (text_of("", status=302), EngineError, "answered 302"),
    ],
)
async def test_a_refusal_is_told_by_its_status(
    upstream: Upstream, engine: Engine, handler: Handler, kind: type, sentence: str
) -> None:
    text, error = await fails(upstream, engine, handler)
    assert text == "" and isinstance(error, kind) and sentence in str(error)
    if isinstance(error, Overloaded):
        assert error.retry_after == 7


@pytest.mark.lengthy
async def test_a_server_that_is_not_there_yet_is_asked_again(
    upstream: Upstream, engine: Engine
) -> None:
    busy = json_of({"error": "loading"}, 503)
    upstream.does(in_turn(busy, busy, upstream.whole))
    assert await ask(engine) == ("Hi!", None)
    _, error = await fails(upstream, engine, busy)
    assert "answered 503 (loading)" in str(error)


@pytest.mark.lengthy
async def test_a_server_that_is_silent(
    upstream: Upstream, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "READ_SECONDS", 0.3)
    await engine.close()

    async def hang(_: Any) -> Any:
        await asyncio.sleep(5)

    _, error = await fails(upstream, engine, hang)
    assert "did not answer in time" in str(error)


@pytest.mark.lengthy
async def test_a_server_that_is_alive_and_writes_nothing(
    upstream: Upstream, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SILENCE", 0.3)

    async def breathe(request: Any) -> Any:
        from aiohttp import web

        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        for _ in range(200):
            await reply.write(b":\n\n")
            await asyncio.sleep(0.05)
        return reply

    _, error = await fails(upstream, engine, breathe)
    assert "wrote nothing" in str(error)


async def test_usage_that_is_missing_is_counted_here(upstream: Upstream, engine: Engine) -> None:
    upstream.does(upstream.whole)
    prompt = build_prompt(engine.template, [user("x")])
    _, last = await complete(engine, prompt, SHORT)
    assert last.usage is not None
    assert last.usage.prompt_tokens == len(prompt.ids) and last.usage.completion_tokens == 2


@pytest.mark.lengthy
async def test_nobody_there(upstream: Upstream) -> None:
    gone = "tgi:http://127.0.0.1:9" if upstream.kind == "tgi" else "openai:http://127.0.0.1:9/m"
    with pytest.raises(EngineError, match="cannot be reached"):
        await asyncio.to_thread(open_engine, gone)


async def test_another_page_at_the_address() -> None:
    with lying_server({"/info": text_of("<html>"), "/v1/models": text_of("<html>")}) as lying:
        for name in (f"tgi:{lying.url}", f"openai:{lying.url}/m"):
            with pytest.raises(EngineError, match="no JSON"):
                await asyncio.to_thread(open_engine, name)
    with (
        lying_server({"/info": json_of({"x": 1})}) as lying,
        pytest.raises(EngineError, match="is no TGI server"),
    ):
        await asyncio.to_thread(open_engine, f"tgi:{lying.url}")


def certificate(folder: Path, *, expired: bool) -> ssl.SSLContext:
    """Make a certificate for the loopback address that nobody trusts, and perhaps no more."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    end = now - datetime.timedelta(days=1) if expired else now + datetime.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "key.pem").write_bytes(private)
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


async def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    with lying_server({"/info": json_of(INFO)}, certificate(tmp_path, expired=False)) as lying:
        for name in (f"tgi:{lying.url}", f"openai:{lying.url}/m"):
            with pytest.raises(EngineError, match=r"certificate .* cannot be trusted.*self-signed"):
                await asyncio.to_thread(open_engine, name)


@pytest.mark.lengthy
def test_an_expired_certificate(tmp_path: Path) -> None:
    script = "import sys; from chatkit.engines.opening import open_engine; open_engine(sys.argv[1])"
    with lying_server({"/info": json_of(INFO)}, certificate(tmp_path, expired=True)) as lying:
        said = subprocess.run(
            [sys.executable, "-c", script, f"tgi:{lying.url}"],
            # Its issuer is trusted, so that only its age is wrong.
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "certificate.pem")},
            capture_output=True,
            text=True,
        ).stderr
    assert "cannot be trusted" in said and "certificate has expired" in said


@pytest.mark.lengthy
async def test_reasoning_is_kept_apart_from_the_answer() -> None:
    thinking = json.dumps({"choices": [{"delta": {"reasoning_content": "Hm. "}}]})
    newer = json.dumps({"choices": [{"delta": {"reasoning": "So."}}]})
    with lying_server({}) as lying:
        engine = await asyncio.to_thread(open_engine, f"openai:{lying.url}/m")
        events = (thinking, newer, openai_token("Yes."), openai_token("", "stop"))
        lying.answers["/v1/chat/completions"] = stream_of(*events)
        prompt = build_prompt(engine.template, [user("x")])
        heard = [delta async for delta in engine.stream(prompt, SHORT)]
        service = await open_chat_service(settings(), ScriptedModels(engine), titles=False)  # type: ignore[arg-type]
        conversation = await service.begin("ada")
        turn = await service.send("ada", conversation, "x", AnswerOptions("m", SHORT))
        async for _ in service.subscribe("ada", conversation, turn.answer):
            pass
        stored = await service.store.nodes.find("ada", conversation, turn.answer)
        await service.close()
        await engine.close()
    assert (stored.message.content, stored.message.reasoning) == ("Yes.", "Hm. So.")
    assert "".join(delta.reasoning for delta in heard) == "Hm. So."
    assert "".join(delta.text for delta in heard) == "Yes."


@pytest.mark.lengthy
async def test_the_chat_service_keeps_what_came_before_a_server_died(upstream: Upstream) -> None:
    opened = await asyncio.to_thread(open_engine, upstream.name)
    service = await open_chat_service(settings(), ScriptedModels(opened), titles=False)  # type: ignore[arg-type]
    try:
        upstream.does(cut_after(*(upstream.token(one) for one in "abc")))
        conversation = await service.begin("ada")
        options = AnswerOptions(upstream.name, SHORT)
        turn = await service.send("ada", conversation, "x", options)
        async for event in service.subscribe("ada", conversation, turn.answer):
            last = event
        stored = await service.store.nodes.find("ada", conversation, turn.answer)
    finally:
        await service.close()
        await opened.close()
    assert last.kind == "failed" and "server of" in last.text
    assert stored.message.content == "abc"
