"""The rules of TGI's generate request: each broken one has its status and its exact body."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from text_generation import Client
from text_generation.errors import ValidationError as ClientValidationError
from wire_server import Running, wire_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
MOST_INPUT, MOST_TOTAL = 40, 50
PLAIN = "Failed to deserialize the JSON body into the target type"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with wire_server(
        max_input_tokens=MOST_INPUT, max_total_tokens=MOST_TOTAL, payload_limit=10_000
    ) as running:
        yield running


def generate(server: Running, inputs: Any = "hi", **parameters: Any) -> tuple[int, Any]:
    reply = server.post("/generate", {"inputs": inputs, "parameters": parameters})
    return reply.status_code, reply.json()


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"best_of": 0}, "`best_of` must be > 0 and <= 2. Given: 0"),
    ({"best_of": 3, "do_sample": True}, "`best_of` must be > 0 and <= 2. Given: 3"),
    ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
    (
        {"best_of": 2, "do_sample": True, "seed": 1},
        "`seed` must not be set when `best_of` > 1",
    ),
    ({"temperature": 0.0}, "`temperature` must be strictly positive"),
    ({"temperature": -1}, "`temperature` must be strictly positive"),
    ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
    ({"frequency_penalty": 2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"frequency_penalty": -2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"top_p": 0.0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"typical_p": 1.0}, "`typical_p` must be > 0.0 and < 1.0"),
    ({"top_k": 0}, "`top_k` must be strictly positive"),
    ({"top_k": -1}, "`top_k` must be strictly positive"),
    ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
    ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
    ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
    (
        {"truncate": MOST_INPUT + 1},
        "`truncate` must be strictly positive and less than 40. Given: 41",
    ),
    ({"truncate": 0}, "`truncate` must be strictly positive and less than 40. Given: 0"),
    (
        {"max_new_tokens": 49},
        "`inputs` tokens + `max_new_tokens` must be <= 50. "
        "Given: 2 `inputs` tokens and 49 `max_new_tokens`",
    ),
    (
        {"max_new_tokens": 100_000},
        "`inputs` tokens + `max_new_tokens` must be <= 50. "
        "Given: 2 `inputs` tokens and 1024 `max_new_tokens`",
    ),
    ({"watermark": True}, "`watermark` is not supported here; leave it out"),
    (
        {"adapter_id": "nobody"},
        "there is no model or adapter 'nobody' here; adapters: none",
    ),
    (
        {"grammar": {"type": "json", "value": {"type": "object"}}},
        "grammar is not valid: a schema must have `properties` at its top level",
    ),
    ({"grammar": {"type": "regex", "value": 3}}, "grammar is not valid: a regex is a string"),
    (
        {"grammar": {"type": "json", "value": "[" * 5000}},
        "grammar is not valid: it is nested too deeply",
    ),
    (
        {"grammar": {"type": "regex", "value": "a"}},
        "scripted: keeps to no json_schema and no regex; ask without one.",
    ),
]


@pytest.mark.parametrize(("parameters", "message"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_rule_is_told_in_tgis_words(
    server: Running, parameters: dict[str, Any], message: str
) -> None:
    assert generate(server, **parameters) == (
        422,
        {"error": f"Input validation error: {message}", "error_type": "validation"},
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {"best_of": 2, "do_sample": True},
        {"best_of": 1},
        {"temperature": 0.01},
        {"repetition_penalty": 0.1},
        {"frequency_penalty": 2.0},
        {"frequency_penalty": -2.0},
        {"top_p": 0.99},
        {"typical_p": 0.01},
        {"top_k": 1},
        {"max_new_tokens": 1},
        {"max_new_tokens": 48},
        {"stop": list("abcd")},
        {"top_n_tokens": 5},
        {"top_n_tokens": 0},
        {"truncate": MOST_INPUT},
        {"adapter_id": "tgi"},
        {"adapter_id": "dummy"},
        {"adapter_id": "scripted:"},
        {"adapter_id": None},
    ],
    ids=str,
)
def test_a_value_at_the_edge_is_taken(server: Running, parameters: dict[str, Any]) -> None:
    status, _ = generate(server, **parameters)
    assert status == 200


def test_an_empty_prompt_is_refused(server: Running) -> None:
    assert generate(server, inputs="") == (
        422,
        {"error": "Input validation error: `inputs` cannot be empty", "error_type": "validation"},
    )


def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(server: Running) -> None:
    assert generate(server, "x" * 41) == (
        422,
        {
            "error": "Input validation error: `inputs` must have less than 40 tokens. Given: 41",
            "error_type": "validation",
        },
    )
    assert generate(server, "x" * 40, max_new_tokens=10)[0] == 200


def test_a_huge_limit_is_no_error_in_a_large_window() -> None:
    with wire_server() as server:
        assert generate(server, max_new_tokens=10**6)[0] == 200


def test_the_first_broken_rule_is_told(server: Running) -> None:
    _, body = generate(server, inputs="", temperature=0, top_p=2.0)
    assert body["error"].endswith("`temperature` must be strictly positive")


def test_grammars_can_be_switched_off() -> None:
    with wire_server(grammar=False) as server:
        _, body = generate(server, grammar={"type": "regex", "value": "a"})
    assert body["error"] == "Input validation error: grammar is not supported"


def test_one_answer_only_where_the_server_allows_no_more() -> None:
    with wire_server(max_best_of=1) as server:
        _, body = generate(server, best_of=2, do_sample=True)
    assert body["error"].endswith("`best_of` != 1 is not allowed for this endpoint")


def test_what_tgi_compat_switches_back() -> None:
    with wire_server(tgi_compat=True) as server:
        assert generate(server, adapter_id="nobody")[0] == 200


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"best_of": 2, "do_sample": True},
            "`best_of` != 1 is not supported when streaming tokens",
        ),
        (
            {"decoder_input_details": True},
            "`decoder_input_details` == true is not supported when streaming tokens",
        ),
        ({"temperature": 0}, "`temperature` must be strictly positive"),
    ],
    ids=str,
)
def test_a_broken_rule_of_a_stream_is_its_only_event(
    server: Running, parameters: dict[str, Any], message: str
) -> None:
    reply = server.post("/generate_stream", {"inputs": "hi", "parameters": parameters})
    assert reply.status_code == 200
    assert server.events("/generate_stream", {"inputs": "hi", "parameters": parameters}) == [
        {"error": f"Input validation error: {message}", "error_type": "validation"}
    ]


def test_the_python_client_raises_its_validation_error(server: Running) -> None:
    client = Client(server.url)
    with pytest.raises(ClientValidationError, match="must be <= 50"):
        client.generate("hi", max_new_tokens=49)
    with pytest.raises(ClientValidationError, match="must be <= 50"):
        list(client.generate_stream("hi", max_new_tokens=49))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": None},
        {"inputs": 3},
        {"inputs": "x", "parameters": None},
        {"inputs": "x", "parameters": {"details": None}},
        {"inputs": "x", "parameters": {"stop": None}},
        {"inputs": "x", "parameters": {"do_sample": None}},
        {"inputs": "x", "parameters": {"max_new_tokens": -1}},
        {"inputs": "x", "parameters": {"max_new_tokens": "5"}},
        {"inputs": "x", "parameters": {"temperature": "hot"}},
        {"inputs": "x", "parameters": {"grammar": {"type": "yaml", "value": ""}}},
        ["inputs"],
        "inputs",
    ],
    ids=str,
)
def test_a_wrong_type_is_told_in_plain_text(server: Running, body: Any) -> None:
    reply = server.post("/generate", body)
    assert reply.status_code == 422
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.text.startswith(PLAIN)
    assert server.still_answers()


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"inputs": "x"', b"\xff\xfe", b"NaN", b"[" * 5000], ids=repr
)
def test_what_is_no_json_is_told_in_plain_text(server: Running, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    reply = requests.post(server.url + "/generate", content, headers=headers, timeout=30)
    assert reply.status_code == 400
    assert reply.text.startswith("Failed to parse the request body as JSON: ")
    assert server.still_answers()


def test_another_content_type_is_refused(server: Running) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"content-type": kind}
        reply = requests.post(server.url + "/generate", b"{}", headers=headers, timeout=30)
        assert reply.status_code == 415
        assert reply.text == "Expected request with `Content-Type: application/json`"
    assert server.still_answers()


def test_a_body_over_the_limit_is_refused_announced_or_not(server: Running) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"inputs": "'
        for _ in range(20):
            yield b"x" * 1000

    reply = server.post("/generate", {"inputs": "x" * 20_000})
    assert reply.status_code == 413
    assert reply.text == "Failed to buffer the request body: length limit exceeded"
    headers = {"content-type": "application/json"}
    chunked = requests.post(server.url + "/generate", pieces(), headers=headers, timeout=30)
    assert chunked.status_code == 413
    assert server.still_answers()


def test_text_that_no_tokenizer_can_hold_is_refused(server: Running) -> None:
    headers = {"content-type": "application/json"}
    content = b'{"inputs": "\\ud800"}'
    reply = requests.post(server.url + "/generate", content, headers=headers, timeout=30)
    assert reply.status_code == 400 and "surrogates not allowed" in reply.text
    assert server.still_answers()
