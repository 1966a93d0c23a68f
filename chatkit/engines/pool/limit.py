"""Waiting for an engine with an end to one's patience."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import suppress
from typing import TypeVar

from chatkit.engine import Delta

Result = TypeVar("Result")


class Limit:
    """Ends a wait at a moment, or when another thread says so; for one request on one event loop.

    Args:
        until: the moment, by the monotonic clock.
    """

    def __init__(self, until: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + until - time.monotonic()
        self._timeout: asyncio.Timeout | None = None

    async def next(self, deltas: AsyncGenerator[Delta, None]) -> Delta | None:
        """Give the next delta, None after the last.

        Raises:
            TimeoutError: it did not come in time.
        """
        return await self.wait(anext(deltas, None))

    async def wait(self, work: Awaitable[Result]) -> Result:
        """Wait for anything; raises as `next`."""
        try:
            async with asyncio.timeout_at(self._until) as self._timeout:
                return await work
        finally:
            self._timeout = None

    def interrupt(self) -> None:
        """End what is waited for now; called from any thread."""
        # A loop that was closed waits for nothing.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._expire)

    def _expire(self) -> None:
        if self._timeout is not None:
            self._timeout.reschedule(self._loop.time())
