"""Signs of life, and the end of answers whose writer gives no more."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from chatkit import telemetry
from chatkit.errors import ChatkitError
from chatkit.store.workers import Orphan, Workers

BEAT_SECONDS = 2.0
# Several missed beats, and still below the 15 s within which a dead answer must say so.
SILENT_SECONDS = 9.0


class Pulse:
    """Beats for this process, and ends what processes without a beat were writing.

    Only changes of a counter are watched, by this process's own monotonic clock: a clock that
    is set back or differs between machines changes nothing.

    Args:
        workers: where beats are noted.
        worker: the name of this process.
        bury: ends one answer that nobody writes any more.
    """

    def __init__(
        self, workers: Workers, worker: str, bury: Callable[[Orphan], Awaitable[None]]
    ) -> None:
        self._workers = workers
        self._worker = worker
        self._bury = bury
        self._seen: dict[str, tuple[int, float]] = {}
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Give the first sign, and go on."""
        await self._workers.beat(self._worker)
        self._task = asyncio.create_task(self._go_on())

    async def close(self) -> None:
        """Stop beating."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self._workers.beat(self._worker)
                async for dead in self._silent():
                    for orphan in await self._workers.claim(dead, self._worker):
                        await self._bury(orphan)
                    self._seen.pop(dead, None)
            except ChatkitError as error:
                telemetry.failed(error)

    async def _silent(self) -> AsyncIterator[str]:
        """Name the processes whose counter has not moved for long."""
        now, beats = time.monotonic(), await self._workers.beats()
        self._seen = {id: seen for id, seen in self._seen.items() if id in beats}
        for id, beat in beats.items():
            before, since = self._seen.get(id, (-1, now))
            if beat != before:
                self._seen[id] = (beat, now)
            elif id != self._worker and now - since > SILENT_SECONDS:
                yield id
