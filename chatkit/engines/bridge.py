"""Hears blocking work on a thread from an event loop."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from chatkit.engines.admission import Release

Item = TypeVar("Item")


class Bridge(Generic[Item]):
    """One piece of blocking work that reports items, and learns when nobody wants more.

    It must be made on the event loop that listens.

    Args:
        work: does the work; calls the function it is given with each item, and ends soon when
            that returns True.
        release: called once, on the thread, when the work is over.
    """

    def __init__(self, work: Callable[[Callable[[Item], bool]], None], release: Release) -> None:
        self._work = work
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[Item | _End] = asyncio.Queue()
        self._stopped = threading.Event()

    def run(self) -> None:
        """Work until it is done or nobody listens; called on a thread."""
        failure: Exception | None = None
        try:
            if not self._stopped.is_set():
                self._work(self._hear)
        except Exception as error:
            failure = error
        finally:
            self._release()
            self._put(_End(failure))

    def stop(self) -> None:
        """Ask the work to end at its next item."""
        self._stopped.set()

    async def items(self) -> AsyncGenerator[Item, None]:
        """Give the items as they come, then raise what the work raised."""
        while not isinstance(item := await self._heard.get(), _End):
            yield item
        if item.failure is not None:
            raise item.failure

    def _hear(self, item: Item) -> bool:
        self._put(item)
        return self._stopped.is_set()

    def _put(self, item: "Item | _End") -> None:
        try:
            self._loop.call_soon_threadsafe(self._heard.put_nowait, item)
        except RuntimeError:  # the loop is closed, so nobody listens any more
            self._stopped.set()


class _End:
    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure
