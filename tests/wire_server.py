"""The wire server as the tests run it: on a free port, in a thread of this process."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import requests
from huggingface_hub import InferenceClient, configure_http_backend

from chatkit.engine import Engine
from chatkit.engines.scripted import Script, ScriptedEngine
from serve.wire.options import WireOptions
from serve.wire.running import listen, server
from serve.wire.service import WireService


@dataclass(frozen=True, slots=True)
class Running:
    """A running server.

    Args:
        url: where it is.
        service: what is inside.
    """

    url: str
    service: WireService

    @property
    def port(self) -> int:
        """Where it listens on the loopback address."""
        return int(self.url.rpartition(":")[2])

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        """Send JSON."""
        return requests.post(self.url + path, json=body, headers=headers, timeout=30)

    def get(self, path: str) -> requests.Response:
        """Ask for a page."""
        return requests.get(self.url + path, timeout=30)

    def events(self, path: str, body: Any) -> list[Any]:
        """Stream, and give each event; `[DONE]` stays as it is."""
        text = self.post(path, body).content.decode()
        data = [one.removeprefix("data: ") for one in text.split("\n\n") if one.startswith("data")]
        return [one if one == "[DONE]" else json.loads(one) for one in data]

    def connect(self) -> socket.socket:
        """Open a plain connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def still_answers(self) -> bool:
        """Tell whether the next request is answered."""
        body = {"inputs": "again", "parameters": {"max_new_tokens": 3}}
        return self.post("/generate", body).json() == {"generated_text": "You"}


OPTIONS = WireOptions("scripted:", max_input_tokens=1000, max_total_tokens=2000)


@contextmanager
def wire_server(engine: Engine | None = None, **changes: Any) -> Iterator[Running]:
    """Run a server around an engine, the scripted one by default.

    Args:
        engine: who answers.
        changes: of the options.
    """
    listener = listen("127.0.0.1", 0)
    service = WireService(engine or ScriptedEngine(), replace(OPTIONS, **changes))
    running = server(service)
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", service)
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def saying(text: str, **script: Any) -> ScriptedEngine:
    """Make an engine that always answers the same."""
    return ScriptedEngine(Script(answer=lambda _: text, **script))


def until(condition: Any, seconds: float = 20) -> None:
    """Wait for something that must happen in another thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def hub(url: str, key: str = "-", provider: Any = None) -> InferenceClient:
    """Give the hub's client for a server; the tests keep it from the hub itself, not from here."""
    configure_http_backend(requests.Session)
    return InferenceClient(url, token=key, provider=provider)
