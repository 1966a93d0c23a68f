"""The one task of a process that reads from Redis what its followers wait for."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.typing import KeyT, StreamIdT

from chatkit.errors import ChatkitError
from chatkit.live.connection import BLOCK_SECONDS, keep_doing
from chatkit.live.event import from_text
from chatkit.live.log import Log, Logs
from chatkit.live.writing import DROPPED, Write

PREFIX = "chatkit:live:"
# Events of all streams that come within this time are read together.
GATHER_SECONDS = 0.005
_MOST_AT_ONCE = 500
_FEWEST_OF_ONE = 10


class Reader:
    """Reads the streams of all followed channels with one blocking command.

    A follower that joins while that command waits ends it through a stream of this process's own,
    which lives for a second.

    Args:
        client: the connection.
        logs: what is followed, and where the events go.
        put: writes an entry to Redis soon.
    """

    def __init__(self, client: Redis, logs: Logs, put: Callable[[Write], None]) -> None:
        self._client = client
        self._logs = logs
        self._put = put
        self._wake_key = f"chatkit:wake:{secrets.token_hex(8)}"
        self._woken = 0
        self._blocked = False
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Read for followers that have just joined, too."""
        self._wanted.set()
        if self._task is None:
            self._task = keep_doing(self._read, GATHER_SECONDS)
        if self._blocked:
            self._woken += 1
            self._put(Write(self._wake_key, self._woken, b"", 1))

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _read(self) -> None:
        logs = self._logs.unread()
        if not logs:
            self._wanted.clear()
            await self._wanted.wait()
            return
        streams: dict[KeyT, StreamIdT] = {self._wake_key: f"{self._woken}-0"}
        streams |= {f"{PREFIX}{channel}": f"{log.last}-0" for channel, log in logs.items()}
        self._blocked = True
        try:
            answer = await self._ask(streams)
        finally:
            self._blocked = False
        for key, entries in answer:
            channel = key.decode().removeprefix(PREFIX)
            if channel in logs:
                self._take(channel, logs[channel], entries)

    async def _ask(self, streams: dict[KeyT, StreamIdT]) -> list[Any]:
        # So few that reading them does not hold up everything else of this process.
        most = max(_MOST_AT_ONCE // len(streams), _FEWEST_OF_ONE)
        found: Any = await self._client.xread(streams, count=most, block=BLOCK_SECONDS * 1000)
        return found or []

    def _take(
        self, channel: str, log: Log, entries: list[tuple[bytes, dict[bytes, bytes]]]
    ) -> None:
        for id, fields in entries:
            seq = int(id.partition(b"-")[0])
            if seq == DROPPED:
                self._logs.drop(channel)
                return
            # None since the last read: this process writes the channel now.
            if log.seal is None or seq <= log.last:
                continue
            try:
                sealed = fields.get(b"e", b"")
                log.add(from_text(seq, log.seal.open(sealed, about(channel, seq))))
            except ChatkitError as error:
                log.end(error)
                return


def about(channel: str, seq: int) -> str:
    """Name the place of an event for its seal."""
    return f"live:{channel}:{seq}"
