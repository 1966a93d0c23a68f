"""Follows an answer from any place: live where that works, from the store where it does not."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from chatkit.live.event import Event
from chatkit.live.opening import Live
from chatkit.sealing import Seal
from chatkit.store.opening import Store
from chatkit.store.records import AnswerFacts, NodeRecord

# When the log is silent for so long, the store is asked whether something was missed.
SILENT_SECONDS = 1.0
# Without a log that processes share, the store is where other processes' answers are seen.
UNSHARED_SECONDS = 0.25


class Following:
    """One follower of one answer.

    Args:
        store: where answers are.
        live: where events of running answers are.
        place: the user, the conversation and the answer.
        seal: what opens the conversation's events.
    """

    def __init__(self, store: Store, live: Live, place: tuple[str, str, str], seal: Seal) -> None:
        self._store = store
        self._live = live
        self._place = place
        self._seal = seal
        self._seen = 0

    async def events(self, after: int) -> AsyncGenerator[Event, None]:
        """Give the events after a place, and end with the final one.

        What the log has lost is healed by a `snapshot`: the whole text up to its number.
        """
        self._seen = after
        node = await self._find()
        if not _open(node):
            for event in self._from_store(node, whole=True):
                if event.seq > after:
                    yield event
            return
        # Closed from the inside out: the merging lets go of the stream before that is closed.
        async with (
            aclosing(self._live.follow(node.id, after, self._seal)) as stream,
            aclosing(self._merged(stream)) as merged,
        ):
            async for event in merged:
                if event.seq > self._seen:
                    self._seen = event.seq
                    yield event
                if event.final:
                    return

    async def _merged(self, stream: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """Give events as they come, with what the store knows where there are holes."""
        pause = SILENT_SECONDS if self._live.shared else UNSHARED_SECONDS
        coming: asyncio.Task[Event | None] | None = None
        try:
            while True:
                coming = coming or asyncio.create_task(_next(stream))
                await asyncio.wait({coming}, timeout=pause)
                if not coming.done():
                    for known in self._from_store(await self._find()):
                        yield known
                    continue
                event, coming = coming.result(), None
                if event is None:
                    break
                if event.seq > self._seen + 1:
                    yield await self._snapshot(event)
                yield event
        finally:
            if coming is not None:
                coming.cancel()
                with suppress(asyncio.CancelledError):
                    await coming
        # The log is gone: the answer ended long ago, or was erased.
        for known in self._from_store(await self._find(), whole=True):
            yield known

    async def _snapshot(self, next_event: Event) -> Event:
        """Wait until the store holds everything before an event, and give it."""
        while True:
            node = await self._find()
            assert node.facts is not None
            if node.facts.flushed >= next_event.seq - 1:
                return _snapshot(node, node.facts)
            await asyncio.sleep(0.05)

    def _from_store(self, node: NodeRecord, whole: bool = False) -> list[Event]:
        """Give what the store knows beyond what was seen, and the end where there is one."""
        facts = node.facts
        if facts is None:
            return [Event(1, "snapshot", node.message.content), Event(2, "done")]
        ended = not facts.open
        events: list[Event] = []
        if facts.flushed > self._seen and (ended or whole or not self._live.shared):
            events.append(_snapshot(node, facts))
        if facts.status != "queued" and facts.status != "running":
            sentence = facts.error[1] if facts.error else ""
            events.append(Event(facts.flushed, facts.status, sentence, _told(node)))
        return events

    async def _find(self) -> NodeRecord:
        return await self._store.nodes.find(*self._place)


def _open(node: NodeRecord) -> bool:
    return node.facts is not None and node.facts.open


def _snapshot(node: NodeRecord, facts: AnswerFacts) -> Event:
    # The end has a number of its own, one above the text's.
    seq = facts.flushed if facts.open else facts.flushed - 1
    return Event(seq, "snapshot", node.message.content)


def _told(node: NodeRecord) -> dict[str, object]:
    facts = node.facts
    assert facts is not None
    return {
        "finish": facts.finish,
        "prompt_tokens": facts.prompt_tokens,
        "cached_tokens": facts.cached_tokens,
        "completion_tokens": facts.completion_tokens,
        "model": facts.model,
        "stage_seconds": dict(facts.stage_seconds),
    }


async def _next(stream: AsyncGenerator[Event, None]) -> Event | None:
    return await anext(stream, None)
