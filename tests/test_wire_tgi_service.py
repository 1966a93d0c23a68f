"""What a server says of itself, who may ask it, and how it ends."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from text_generation import AsyncClient, Client
from wire_server import Running, hub, until, wire_server

from chatkit.engines.scripted import ScriptedEngine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
KEY = "s3cret-key"
SPENDING = ("/", "/generate", "/generate_stream", "/tokenize", "/invocations", "/chat_tokenize")
OPENAI = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
OPEN = ("/", "/info", "/health", "/ping", "/metrics", "/v1/models")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with wire_server() as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with wire_server(api_key=KEY) as running:
        yield running


def test_info_has_tgis_keys_and_the_templates_identity(server: Running) -> None:
    info = server.get("/info").json()
    assert {
        "model_id",
        "model_sha",
        "model_pipeline_tag",
        "max_concurrent_requests",
        "max_best_of",
        "max_stop_sequences",
        "max_input_tokens",
        "max_total_tokens",
        "validation_workers",
        "max_client_batch_size",
        "router",
        "version",
        "sha",
        "docker_label",
    } <= set(info)
    assert (info["max_input_tokens"], info["max_total_tokens"]) == (1000, 2000)
    assert info["chatkit_template"] == str(server.service.engine.template.identity)


def test_the_hubs_client_reads_info(server: Running) -> None:
    client = hub(server.url, provider="hf-inference")
    assert client.get_endpoint_info()["model_id"] == "scripted:"


def test_health_is_empty_while_the_engine_works_and_503_when_not() -> None:
    engine = ScriptedEngine()
    with wire_server(engine) as server:
        for path in ("/", "/health", "/ping"):
            reply = server.get(path)
            assert (reply.status_code, reply.content) == (200, b"")
        asyncio.run(engine.close())
        for path in ("/", "/health", "/ping"):
            reply = server.get(path)
            assert reply.status_code == 503
            assert reply.json() == {"error": "unhealthy", "error_type": "healthcheck"}


def test_unknown_routes_and_methods_are_empty(server: Running) -> None:
    for reply, status in (
        (server.get("/nowhere"), 404),
        (server.get("/generate"), 405),
        (requests.put(server.url + "/generate", timeout=30), 405),
    ):
        assert (reply.status_code, reply.content) == (status, b"")


@pytest.mark.parametrize("path", [*SPENDING, *OPENAI])
def test_without_the_key_nothing_is_spent_or_shown(locked: Running, path: str) -> None:
    for shown in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
        reply = locked.post(path, {"inputs": "x"}, **shown)
        assert (reply.status_code, reply.content) == (401, b"")
    assert locked.post(path, {}, Authorization=f"bearer {KEY}").status_code != 401


def test_what_watches_a_server_needs_no_key(locked: Running) -> None:
    assert all(locked.get(path).status_code == 200 for path in OPEN)


def test_tgi_compat_opens_chat_tokenize() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    with wire_server(api_key=KEY, tgi_compat=True) as server:
        assert server.post("/chat_tokenize", body).status_code == 200


def test_clients_pass_with_a_bearer(locked: Running) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    assert Client(locked.url, headers=headers).generate("hi").generated_text == "You said: hi"
    answer = asyncio.run(AsyncClient(locked.url, headers=headers).generate("hi"))
    assert answer.generated_text == "You said: hi"
    client = hub(locked.url, key=KEY)
    assert client.text_generation("hi", return_full_text=False) == "You said: hi"


def test_the_key_is_in_no_page_and_no_representation(locked: Running) -> None:
    pages = [locked.get(path).text for path in (*OPEN, "/api-doc/openapi.json")]
    assert not any(KEY in page for page in pages)
    assert KEY not in repr(locked.service.options)


def counts(server: Running) -> dict[str, float]:
    return {
        sample.name.removesuffix("_total") + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(server.get("/metrics").text)
        for sample in family.samples
        if sample.name.startswith("tgi_request") and not sample.name.endswith("_bucket")
    }


@pytest.mark.lengthy
def test_metrics_move_by_what_happened() -> None:
    with wire_server() as server:
        before = counts(server)
        server.post("/generate", {"inputs": "hi", "parameters": {"max_new_tokens": 5}})
        server.events("/generate_stream", {"inputs": "hi", "parameters": {}})
        server.post("/generate", {"inputs": "hi", "parameters": {"temperature": 0}})
        after = counts(server)
        assert "\ntgi_request_count 3.0\n" in server.get("/metrics").text
    moved = {name: after[name] - before.get(name, 0) for name in after}
    assert moved["tgi_request_count"] == 3
    assert moved["tgi_request_success"] == 2
    assert moved["tgi_request_failurevalidation"] == 1
    assert moved["tgi_request_generated_tokens_count"] == 2
    assert moved["tgi_request_generated_tokens_sum"] == 5 + 13
    assert moved["tgi_request_input_length_sum"] == 4
    assert moved["tgi_request_duration_count"] == 2


@pytest.mark.lengthy
def test_sixteen_clients_at_once_do_not_mix(server: Running) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        *_, last = Client(server.url, timeout=60).generate_stream(
            f"number {number}", max_new_tokens=100
        )
        answers[number] = last.generated_text

    async def ask_all() -> list[str]:
        client = AsyncClient(server.url, timeout=60)
        asked = [client.generate(f"task {number}", max_new_tokens=100) for number in range(16)]
        return [answer.generated_text for answer in await asyncio.gather(*asked)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    tasks = asyncio.run(ask_all())
    for thread in threads:
        thread.join()
    assert answers == {number: f"You said: number {number}" for number in range(16)}
    assert tasks == [f"You said: task {number}" for number in range(16)]


class Process:
    """`python -m serve engine` as users start it."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "serve", "engine", "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def url(self) -> str:
        """Wait until it serves."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        return found[0]

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.mark.lengthy
def test_a_server_that_is_told_to_end_lets_streams_finish_and_takes_no_more() -> None:
    with Process("--model", "scripted:", CHATKIT_SERVE_API_KEY=KEY) as served:
        url = served.url()
        headers = {"Authorization": f"Bearer {KEY}"}
        # The scripted engine writes as fast as it is read; a long question makes a long answer.
        body = {"inputs": "x" * 1500, "parameters": {"max_new_tokens": 2000}}
        stream = requests.post(
            url + "/generate_stream", json=body, headers=headers, stream=True, timeout=30
        )
        lines = stream.iter_lines()
        first = next(lines)
        served.process.send_signal(signal.SIGTERM)
        until(lambda: _refused(url))
        rest = [line for line in lines if line]
        assert first and b'"finish_reason"' not in first and b'"generated_text":"You' in rest[-1]
        assert served.process.wait(30) == 0


def _refused(url: str) -> bool:
    try:
        requests.get(url + "/health", timeout=5)
    except requests.ConnectionError:
        return True
    return False


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--model", "smolm2-135m"), 1, "did you mean smollm2-135m"),
        (("--model", "scripted:", "--adapter", "x"), 2, "write NAME=FOLDER"),
        (("--model", "scripted:", "--max-total-tokens", "9999"), 2, "lower it"),
        (("--model", "scripted:", "--max-input-tokens", "9999"), 2, "needs room too"),
        (("--model", "scripted:", "--quantize", "int9"), 2, "use int8 or int4"),
        (("--model", "scripted:", "--host", "203.0.113.7"), 2, "choose another"),
    ],
)
def test_a_wrong_start_is_one_sentence(
    arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    with Process(*arguments) as served:
        _, said = served.process.communicate(timeout=60)
        assert served.process.returncode == code
        assert sentence in said and "Traceback" not in said


@pytest.mark.lengthy
def test_help_is_quick_and_shows_examples() -> None:
    script = (
        "import sys, serve.__main__; heavy = {'torch', 'transformers', 'fastapi', 'uvicorn', "
        "'xllamacpp', 'panel'}; print(sorted(heavy & set(sys.modules)))"
    )
    run = [sys.executable, "-c", script]
    assert subprocess.run(run, cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"
    told = [sys.executable, "-m", "serve", "engine", "--help"]
    text = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "python -m serve engine --model smollm2-135m" in text
