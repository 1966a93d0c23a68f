"""Server-sent events that stop the work when nobody listens any more."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

DONE = b"data: [DONE]\n\n"
ALIVE = b":\n\n"
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


def event(value: Any) -> bytes:
    """Write one event, on one line of JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + text.encode() + b"\n\n"


class EventStream(Response):
    """Sends events as they come; the generator is closed as soon as the client has gone.

    Args:
        events: the events, each whole.
        keep_alive: after so many seconds of silence a comment is sent.
        headers: further headers.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        keep_alive: float,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._events = events
        self._keep_alive = keep_alive
        self._sent = 0.0
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self.init_headers({**HEADERS, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or stop when the client has gone."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self._sent = time.monotonic()
        work = asyncio.create_task(self._send_all(send))
        watch = asyncio.create_task(self._watch(receive, send))
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (watch, work):
                task.cancel()
            await asyncio.gather(watch, work, return_exceptions=True)
        if work.done() and not work.cancelled():
            work.result()

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for piece in events:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self._sent = time.monotonic()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive, send: Send) -> None:
        """Return when the client has gone; tell it after a silence that we have not."""
        while True:
            try:
                async with asyncio.timeout(self._keep_alive):
                    message = await receive()
            except TimeoutError:
                if time.monotonic() - self._sent >= self._keep_alive:
                    self._sent = time.monotonic()
                    await send({"type": "http.response.body", "body": ALIVE, "more_body": True})
                continue
            if message["type"] == "http.disconnect":
                return
