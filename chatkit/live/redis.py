"""Live logs for several processes, as Redis Streams."""

from collections.abc import AsyncGenerator
from contextlib import closing, suppress
from math import ceil

from chatkit.live.connection import FAILURES, connect, unavailable
from chatkit.live.event import Event, to_text
from chatkit.live.log import IDLE_SECONDS, Logs
from chatkit.live.memory import closed
from chatkit.live.patience import Patience
from chatkit.live.reading import PREFIX, Reader, about
from chatkit.live.writing import Write, Writer
from chatkit.sealing import Seal


class RedisLive:
    """Keeps the logs in Redis, sealed; it belongs to one event loop.

    Followers of a channel that this process writes have each event at once; the others read it
    from Redis. An event's stream id is its sequence number, so writing it twice, after an answer
    that was lost, adds nothing.

    When Redis is away, events wait here in their order and are written when it is back, and
    followers go on from the last event they had. Where Redis lost its data meanwhile, writing goes
    on with the next number: followers elsewhere may then miss events, but see none twice and none
    in disorder.

    Args:
        url: `redis://HOST:PORT/NUMBER`.
        retain_seconds: how long a log stays after its final event.

    Raises:
        InputError: the address cannot be understood.
    """

    shared = True

    def __init__(self, url: str, retain_seconds: float = 60.0) -> None:
        self._url = url
        self._retain_seconds = max(ceil(retain_seconds), 1)
        self._client = connect(url)
        self._logs = Logs(retain_seconds)
        self._writer = Writer(self._client)
        self._reader = Reader(self._client, self._logs, self._writer.put)
        self._closed = False

    async def ready(self) -> None:
        """Ask Redis once; see `Live.ready`."""
        try:
            await self._writer.check()
        except FAILURES as error:
            raise unavailable(self._url, error) from error

    def append(self, channel: str, event: Event, seal: Seal) -> None:
        """Add an event; see `Live.append`."""
        if self._closed:
            raise closed()
        body = seal.close(to_text(event), about(channel, event.seq))
        if self._logs.append(channel, event):
            seconds = self._retain_seconds if event.final else IDLE_SECONDS
            self._writer.put(Write(f"{PREFIX}{channel}", event.seq, body, seconds))

    async def follow(
        self, channel: str, after: int, seal: Seal, silence: float | None = None
    ) -> AsyncGenerator[Event | None, None]:
        """Give the events after one; see `Live.follow`."""
        if self._closed:
            raise closed()
        with (
            closing(Patience(silence)) as patience,
            self._logs.joined(channel, after, seal) as log,
        ):
            if log.seal is not None:
                self._reader.look()
            while (events := await log.after(after, patience)) != []:
                for event in events or (None,):
                    yield event
                after = events[-1].seq if events else after

    async def drop(self, channel: str) -> None:
        """Erase a channel; see `Live.drop`."""
        self._logs.drop(channel)
        try:
            await self._writer.drop(f"{PREFIX}{channel}")
        except FAILURES as error:
            raise unavailable(self._url, error) from error

    async def close(self) -> None:
        """Hand over what waits and let go; see `Live.close`."""
        if self._closed:
            return
        self._closed = True
        await self._writer.close()
        await self._reader.close()
        self._logs.close()
        with suppress(*FAILURES):
            await self._client.aclose()
