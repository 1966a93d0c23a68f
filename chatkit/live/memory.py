"""Live logs for one process."""

from collections.abc import AsyncGenerator
from contextlib import closing

from chatkit.errors import StoreUnavailable
from chatkit.live.event import Event
from chatkit.live.log import Logs
from chatkit.live.patience import Patience
from chatkit.sealing import Seal


class MemoryLive:
    """Keeps the logs in this process; it belongs to one event loop.

    Args:
        retain_seconds: how long a log stays after its final event.
    """

    shared = False

    def __init__(self, retain_seconds: float = 60.0) -> None:
        self._logs = Logs(retain_seconds)
        self._closed = False

    async def ready(self) -> None:
        """Nothing to wait for; see `Live.ready`."""

    def append(self, channel: str, event: Event, seal: Seal) -> None:
        """Add an event; see `Live.append`."""
        if self._closed:
            raise closed()
        self._logs.append(channel, event)

    async def follow(
        self, channel: str, after: int, seal: Seal, silence: float | None = None
    ) -> AsyncGenerator[Event | None, None]:
        """Give the events after one; see `Live.follow`."""
        if self._closed:
            raise closed()
        with (
            closing(Patience(silence)) as patience,
            self._logs.joined(channel, after, None) as log,
        ):
            while (events := await log.after(after, patience)) != []:
                for event in events or (None,):
                    yield event
                after = events[-1].seq if events else after

    async def drop(self, channel: str) -> None:
        """Forget a channel; see `Live.drop`."""
        self._logs.drop(channel)

    async def close(self) -> None:
        """Forget everything; see `Live.close`."""
        self._closed = True
        self._logs.close()


def closed() -> StoreUnavailable:
    """Make the error for what is asked after the end."""
    return StoreUnavailable("The live streams of this process were closed; open them again.")
