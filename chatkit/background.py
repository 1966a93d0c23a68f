"""One event loop on a thread of its own, for notebooks and scripts that are not asynchronous."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import aclosing, suppress
from functools import cache
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on the background loop and wait; Ctrl-C cancels it, and waits for its end.

    Raises: whatever the coroutine raises.
    """
    running = _Running(work)
    try:
        return running.future.result()
    finally:
        running.cancel()


def iterate(stream: AsyncGenerator[Result, None]) -> Iterator[Result]:
    """Give the items of an asynchronous generator one by one; leaving early closes it.

    Raises: whatever the generator raises.
    """
    items: SimpleQueue[Result | _End] = SimpleQueue()

    async def pump() -> None:
        async with aclosing(stream):
            async for item in stream:
                items.put(item)

    running = _Running(pump())
    running.future.add_done_callback(lambda _: items.put(_End()))
    try:
        while not isinstance(item := items.get(), _End):
            yield item
        running.future.result()
    finally:
        running.cancel()


class _End:
    """Says that no item follows."""


class _Running(Generic[Result]):
    """A coroutine that runs on the background loop."""

    def __init__(self, work: Coroutine[Any, Any, Result]) -> None:
        self._work = work
        self._task: asyncio.Task[Any] | None = None
        self._loop = _loop()
        self.future = asyncio.run_coroutine_threadsafe(self._noted(), self._loop)

    def cancel(self) -> None:
        """Cancel the coroutine and wait until it has ended; nothing when it has."""
        if self.future.done():
            return
        self._loop.call_soon_threadsafe(self._cancel_task)
        with suppress(CancelledError, Exception):
            self.future.result()

    async def _noted(self) -> Result:
        self._task = asyncio.current_task()
        return await self._work

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="chatkit-background", daemon=True).start()
    return loop
