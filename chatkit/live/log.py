"""The logs that this process knows, each with the events of one channel and who waits for more."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from chatkit.errors import ChatkitError
from chatkit.live.event import Event
from chatkit.live.patience import Patience
from chatkit.sealing import Seal

# A log whose writer fell silent without a final event is kept this long.
IDLE_SECONDS = 3600


class Log:
    """The events of one channel, in order, without repeats.

    Args:
        start: the sequence number after which this log misses nothing.
        seal: opens the events that must be read from elsewhere; None when nothing must be, since
            they are written in this process.
    """

    def __init__(self, start: int, seal: Seal | None = None) -> None:
        self.start = start
        self.seal = seal
        self.written = False
        self.followers = 0
        self.touched = 0.0
        self._events: list[Event] = []
        self._ended = False
        self._error: ChatkitError | None = None
        self._waiting: set[asyncio.Future[bool]] = set()

    @property
    def last(self) -> int:
        """The sequence number of the newest event that is known here."""
        return self._events[-1].seq if self._events else self.start

    @property
    def finished(self) -> bool:
        """Whether nothing more can come: after a final event, or after `end`."""
        return self._ended or bool(self._events and self._events[-1].final)

    def add(self, event: Event) -> None:
        """Take the next event; one that is there already, or comes after a final one, is not."""
        if event.seq > self.last and not self.finished:
            self._events.append(event)
            self._wake()

    def end(self, error: ChatkitError | None = None) -> None:
        """Forget the events and let every follower end, with an error when there is one."""
        self._ended, self._error = True, error
        self._events.clear()
        self._wake()

    def rewind(self, start: int, seal: Seal) -> None:
        """Read once more from an earlier place; followers go on from where they are."""
        self.start, self.seal = start, seal
        self._events.clear()

    async def after(self, seq: int, patience: Patience) -> list[Event] | None:
        """Give the events after one, as soon as there are any; none means that none will come.

        Returns: None when nothing came for as long as the follower has patience.

        Raises:
            ChatkitError: the log was ended with it.
        """
        while True:
            if self._error:
                raise self._error
            found = self._newer(seq)
            if found or self.finished:
                return found
            if not await patience.wait(self._waiting):
                return None

    def _newer(self, seq: int) -> list[Event]:
        # From the end, since nearly every follower lacks only what has just come.
        place = len(self._events)
        while place and self._events[place - 1].seq > seq:
            place -= 1
        return self._events[place:]

    def _wake(self) -> None:
        for follower in self._waiting:
            if not follower.done():
                follower.set_result(True)
        self._waiting.clear()


class Logs:
    """All logs of this process, by channel.

    Args:
        retain_seconds: how long a log stays after its final event.
    """

    def __init__(self, retain_seconds: float) -> None:
        self._retain_seconds = retain_seconds
        self._logs: dict[str, Log] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._dropped: dict[str, asyncio.TimerHandle] = {}

    def append(self, channel: str, event: Event) -> bool:
        """Take an event that is written in this process.

        Returns:
            False when the channel was dropped, and the event with it.
        """
        if channel in self._dropped:
            return False
        log = self._logs.get(channel)
        if log is None:
            log = self._logs[channel] = Log(event.seq - 1)
        # With a gap before it, the event waits until those between have been read.
        if log.seal is None or event.seq == log.last + 1:
            log.seal = None
            log.add(event)
        log.written, log.touched = True, asyncio.get_running_loop().time()
        if event.final or channel not in self._timers:
            self._watch(channel)
        return True

    @contextmanager
    def joined(self, channel: str, after: int, seal: Seal | None) -> Iterator[Log]:
        """Follow a channel's log while inside.

        Args:
            channel: which one.
            after: the newest event that the follower has.
            seal: opens what is read from elsewhere; None when events are only written here.
        """
        # One before: a follower that already has the final event must be told that it is.
        start = max(after - 1, 0) if seal else 0
        log = self._logs.get(channel) or Log(start, seal)
        if channel in self._dropped:
            log.end()
        else:
            self._logs[channel] = log
        if after < log.start and seal:
            log.rewind(start, seal)
        log.followers += 1
        try:
            yield log
        finally:
            log.followers -= 1
            if not log.followers and not log.written and self._logs.get(channel) is log:
                del self._logs[channel]

    def unread(self) -> dict[str, Log]:
        """Give the logs whose followers wait for events that are written elsewhere."""
        return {
            channel: log
            for channel, log in self._logs.items()
            if log.seal is not None and log.followers and not log.finished
        }

    def drop(self, channel: str) -> None:
        """Forget a channel, end its followers, and take nothing more for it for some time."""
        self._forget(channel)
        loop = asyncio.get_running_loop()
        self._dropped[channel] = loop.call_later(IDLE_SECONDS, self._dropped.pop, channel, None)

    def close(self) -> None:
        """Forget everything and end every follower."""
        for channel in list(self._logs):
            self._forget(channel)
        for timer in self._dropped.values():
            timer.cancel()

    def _watch(self, channel: str) -> None:
        """Forget a log that was written here when its time is over, else look again then."""
        self._stop_watching(channel)
        loop, log = asyncio.get_running_loop(), self._logs[channel]
        most = self._retain_seconds if log.finished else IDLE_SECONDS
        over = log.touched + most
        if loop.time() < over:
            self._timers[channel] = loop.call_at(over, self._watch, channel)
        elif log.followers and not log.finished:
            self._timers[channel] = loop.call_later(most, self._watch, channel)
        else:
            del self._logs[channel]

    def _forget(self, channel: str) -> None:
        self._stop_watching(channel)
        log = self._logs.pop(channel, None)
        if log is not None:
            log.end()

    def _stop_watching(self, channel: str) -> None:
        timer = self._timers.pop(channel, None)
        if timer is not None:
            timer.cancel()
