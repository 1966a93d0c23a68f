"""How long a follower waits before it is told that nothing comes."""

import asyncio


class Patience:
    """The waits of one follower, one after another.

    A single timer goes on from wait to wait: to set one for each would cost as much as all the
    rest of an event.

    Args:
        seconds: how long a wait lasts at most; None has no end.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._news: asyncio.Future[bool] | None = None

    async def wait(self, waiting: set[asyncio.Future[bool]]) -> bool:
        """Wait for news, or as long as patience lasts.

        Args:
            waiting: who waits; whoever has news fulfils all of them with True.

        Returns: whether there is news.
        """
        loop = asyncio.get_running_loop()
        self._news = loop.create_future()
        waiting.add(self._news)
        if self._seconds is not None:
            self._due = loop.time() + self._seconds
            self._timer = self._timer or loop.call_at(self._due, self._look)
        try:
            return await self._news
        finally:
            waiting.discard(self._news)

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._news is None or self._news.done():
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._due:
            self._timer = loop.call_at(self._due, self._look)
        else:
            self._news.set_result(False)
