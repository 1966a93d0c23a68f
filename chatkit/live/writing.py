"""The one task of a process that writes its events to Redis, many at a time."""

import asyncio
from collections import deque
from itertools import islice
from typing import NamedTuple

from redis.asyncio import Redis

from chatkit import telemetry
from chatkit.live.connection import keep_doing

# Events that come within this time share one round trip; the first after a silence waits not.
GATHER_SECONDS = 0.005
CLOSE_SECONDS = 2.0
_MOST_AT_ONCE = 500
# Some 60 MB of what could not be written yet; beyond it the oldest goes, and followers see a gap.
_MOST_PENDING = 200_000
# A number above all others, that says to followers elsewhere: this log was dropped.
DROPPED = 2**53 - 1
_DROP_SECONDS = 0.1

# One command for a whole batch costs a third of a pipeline. An id that is there already came with
# an earlier try, whose answer was lost.
_WRITE = """
for i, key in ipairs(KEYS) do
  local id, body, seconds = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local added = redis.pcall('XADD', key, 'MAXLEN', '~', 100000, id, 'e', body)
  if type(added) == 'table' and added.err
      and not string.find(added.err, 'equal or smaller', 1, true) then
    return added
  end
  redis.call('EXPIRE', key, seconds)
end
return #KEYS
"""


class Write(NamedTuple):
    """An entry to be written: its stream, its number, its bytes, and how long the stream lives."""

    key: str
    seq: int
    body: bytes
    seconds: int


class Writer:
    """Writes entries in the order in which they came, and again until Redis has them.

    Args:
        client: the connection.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._script = client.register_script(_WRITE)
        self._pending: deque[Write] = deque(maxlen=_MOST_PENDING)
        self._batch: list[Write] = []
        self._lost = 0
        self._wanted = asyncio.Event()
        self._written = asyncio.Event()
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Write nothing, to see whether Redis would take it."""
        await self._send([])

    def put(self, write: Write) -> None:
        """Write an entry soon."""
        self._lost += len(self._pending) == _MOST_PENDING
        self._pending.append(write)
        self._wanted.set()
        if self._task is None:
            self._task = keep_doing(self._write_batch, GATHER_SECONDS)

    async def drop(self, key: str) -> None:
        """Delete a stream, and what waits to be written to it."""
        # What is on its way must arrive before the stream is deleted.
        async with self._sending:
            self._batch = [write for write in self._batch if write.key != key]
            kept = (write for write in self._pending if write.key != key)
            self._pending = deque(kept, maxlen=_MOST_PENDING)
            if not await self._client.delete(key):
                return
            await self._send([Write(key, DROPPED, b"", 1)])
        # Time for followers elsewhere to read it.
        await asyncio.sleep(_DROP_SECONDS)
        await self._client.delete(key)

    async def close(self) -> None:
        """Write what waits, for some time, and stop."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._batch or self._pending:
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            telemetry.event("live events lost", count=len(self._batch) + len(self._pending))
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _write_batch(self) -> None:
        await self._wanted.wait()
        async with self._sending:
            if not self._batch:
                self._batch = list(islice(self._pending, _MOST_AT_ONCE))
                for _ in self._batch:
                    self._pending.popleft()
            await self._send(self._batch)
            self._batch = []
        if not self._pending:
            self._wanted.clear()
        self._written.set()
        if self._lost:
            telemetry.event("live events lost", count=self._lost)
            self._lost = 0

    async def _send(self, writes: list[Write]) -> None:
        keys = [write.key for write in writes]
        await self._script(
            keys, [part for _, seq, body, life in writes for part in (f"{seq}-0", body, life)]
        )
