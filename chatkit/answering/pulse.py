"""Signs of life, and the end of answers whose writer gives no more."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from chatkit import telemetry
from chatkit.errors import ChatkitError, DiskFull, StoreUnavailable
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
        self._looked = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._burials: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Give the first sign, and go on."""
        await self._workers.beat(self._worker)
        self._task = asyncio.create_task(self._go_on())

    async def close(self) -> None:
        """Stop beating; what could not be ended yet is left to another process."""
        tasks = [*self._burials, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self._workers.beat(self._worker)
                for dead in await self._silent():
                    self._begin_burials(await self._workers.claim(dead, self._worker))
                    self._seen.pop(dead, None)
            except Exception as error:
                # A heart that stops would make others end what is being written here.
                _note(error)

    def _begin_burials(self, orphans: tuple[Orphan, ...]) -> None:
        """End answers all at once, and beside the heart: each waits for what the log still has."""
        for orphan in orphans:
            task = asyncio.create_task(self._bury_at_last(orphan))
            self._burials.add(task)
            task.add_done_callback(self._burials.discard)

    async def _bury_at_last(self, orphan: Orphan) -> None:
        """End an answer, and try again while the store cannot take its end."""
        while True:
            try:
                await self._bury(orphan)
                return
            except (StoreUnavailable, DiskFull) as error:
                telemetry.failed(error)
            except Exception as error:
                _note(error)
                return
            await asyncio.sleep(BEAT_SECONDS)

    async def _silent(self) -> list[str]:
        """Name the processes whose counter has not moved for long."""
        beats, now = await self._workers.beats(), time.monotonic()
        if now - self._looked > SILENT_SECONDS / 2:
            # The store was away, and nobody could give a sign: all have their time again.
            self._seen.clear()
        self._looked = now
        self._seen = {id: seen for id, seen in self._seen.items() if id in beats}
        for id, beat in beats.items():
            if self._seen.get(id, (-1, now))[0] != beat:
                self._seen[id] = (beat, now)
        return [
            id
            for id, (_, since) in self._seen.items()
            if id != self._worker and now - since > SILENT_SECONDS
        ]


def _note(error: Exception) -> None:
    telemetry.failed(error)
    if not isinstance(error, ChatkitError):
        logging.getLogger(__name__).error("a sign of life failed", exc_info=error)
