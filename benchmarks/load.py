"""A lean client for load: many streams at once over plain sockets, noting when events arrive."""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

EVENT = b"data: "
PATIENCE = 120.0


@dataclass(slots=True)
class Heard:
    """What came of one request.

    Args:
        status: the HTTP status.
        asked: when it was sent, by the monotonic clock.
        times: when each event arrived.
        tail: the last bytes of the body.
    """

    status: int
    asked: float
    times: list[float] = field(default_factory=list)
    tail: bytes = b""

    @property
    def first(self) -> float:
        """Seconds to the first event."""
        return self.times[0] - self.asked

    @property
    def gaps(self) -> list[float]:
        """Seconds between one event and the next."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]

    @property
    def tokens(self) -> int:
        """How many tokens the server says it has written."""
        counts = re.findall(rb'"(?:completion_tokens|generated_tokens)": ?(\d+)', self.tail)
        return int(counts[-1]) if counts else 0


async def ask(port: int, path: str, body: dict[str, Any], key: str = "") -> Heard:
    """Send one request on a connection of its own, and listen to the end.

    Args:
        port: where a server listens on the loopback address.
        path: its route.
        body: what is sent as JSON.
        key: the bearer key, empty for none.
    """
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        try:
            asked = time.monotonic()
            writer.write(_request(path, body, key))
            head = await reader.readuntil(b"\r\n\r\n")
            heard = Heard(int(head.split(b" ", 2)[1]), asked)
            await _listen(reader, heard)
            return heard
        finally:
            writer.close()


async def ask_all(
    port: int, path: str, bodies: Sequence[dict[str, Any]], key: str = ""
) -> list[Heard]:
    """Send several requests at once."""
    return list(await asyncio.gather(*(ask(port, path, body, key) for body in bodies)))


async def _listen(reader: asyncio.StreamReader, heard: Heard) -> None:
    # An event's first bytes may end one read and go on in the next.
    rest = b""
    while piece := await reader.read(2**16):
        now, seen = time.monotonic(), rest + piece
        heard.times += [now] * seen.count(EVENT)
        rest = seen[-len(EVENT) + 1 :]
        heard.tail = (heard.tail + piece)[-2_000:]


def _request(path: str, body: dict[str, Any], key: str) -> bytes:
    content = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        "Connection: close",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content
