"""What a live log can do, and which kind there is."""

from collections.abc import AsyncGenerator
from typing import Protocol

from chatkit.live.event import Event
from chatkit.live.memory import MemoryLive
from chatkit.sealing import Seal


class Live(Protocol):
    """The logs of running answers, one to a channel; it belongs to one event loop.

    A channel has a single writer, which counts its events 1, 2, 3 …, and any number of followers,
    which may come before it, late, or again from where they were. A follower sees rising sequence
    numbers, never one twice. Within one process it sees all of them. Across processes some may be
    missing, after Redis lost its data: then the next number is not one more than the last, and
    who follows takes the text so far from the store instead.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes see these logs."""
        ...

    async def ready(self) -> None:
        """Find out at the start whether the logs can be kept.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        ...

    def append(self, channel: str, event: Event, seal: Seal) -> None:
        """Add an event; followers here have it at once, it goes elsewhere within milliseconds.

        An event whose number is not above the newest is there already, and is left out. So is one
        for a channel that was dropped.

        Args:
            channel: which log.
            event: with the number that follows.
            seal: seals what leaves this process.

        Raises:
            StoreUnavailable: the logs were closed.
        """
        ...

    def follow(
        self, channel: str, after: int, seal: Seal, silence: float | None = None
    ) -> AsyncGenerator[Event | None, None]:
        """Give the events after one, in order, as they come; ends after a final one.

        Of a channel that nobody has written yet it waits for the first event, and so it does of
        one whose time is over. Who may read a channel is decided by who calls this.

        Args:
            channel: which log.
            after: the newest sequence number that the follower has, 0 for none.
            seal: opens what other processes wrote.
            silence: give None each time that nothing has come for so many seconds.

        Raises:
            KeyUnavailable: the seal opens nothing in this log.
            StoreUnavailable: the logs were closed before.
        """
        ...

    async def drop(self, channel: str) -> None:
        """Erase a channel, here and in Redis, and end its followers; stop its writer first.

        Raises:
            StoreUnavailable: Redis does not answer; what is there stays there, so drop it again.
        """
        ...

    async def close(self) -> None:
        """Hand over what is not yet in Redis, end every follower, and let everything go."""
        ...


def open_live(url: str | None, *, retain_seconds: float = 60.0) -> Live:
    """Open the live logs.

    Args:
        url: `redis://HOST:PORT/NUMBER` for several processes; None for this one.
        retain_seconds: how long a log stays after its final event, for those who come late.

    Raises:
        InputError: the address cannot be understood.
    """
    if url is None:
        return MemoryLive(retain_seconds)
    from chatkit.live.redis import RedisLive

    return RedisLive(url, retain_seconds)
