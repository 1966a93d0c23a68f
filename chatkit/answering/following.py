"""Follows an answer from any place: live where that works, from the store where it does not."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

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
            for news in self._unseen(self._from_store(node, whole=True)):
                yield news
            return
        pause = SILENT_SECONDS if self._live.shared else UNSHARED_SECONDS
        async with aclosing(self._live.follow(node.id, after, self._seal, pause)) as stream:
            async for event in stream:
                for news in self._unseen(await self._healed(event)):
                    yield news
                    if news.final:
                        return
        # The log is gone: the answer ended long ago, or was erased.
        for news in self._unseen(self._from_store(await self._find(), whole=True)):
            yield news

    async def _healed(self, event: Event | None) -> list[Event]:
        """Give an event, with what the store knows where there is silence or a hole before it."""
        if event is None:
            return self._from_store(await self._find())
        if event.seq > self._seen + 1:
            return [await self._snapshot(event), event]
        return [event]

    def _unseen(self, events: list[Event]) -> Iterator[Event]:
        for event in events:
            if event.seq > self._seen:
                self._seen = event.seq
                yield event

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
