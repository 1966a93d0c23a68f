"""All answers that this process writes: begins them, stops them, and ends what others left."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any

from chatkit import telemetry
from chatkit.answering.following import Following
from chatkit.answering.job import Bench, Job
from chatkit.answering.pulse import Pulse
from chatkit.answering.run import Run
from chatkit.answering.scribe import Scribe
from chatkit.answering.summaries import short_title, write_title
from chatkit.answering.voice import Voice
from chatkit.errors import ChatkitError
from chatkit.live.event import Event
from chatkit.sealing import Seal
from chatkit.store.answers import Growth
from chatkit.store.records import AnswerFacts
from chatkit.store.workers import Orphan

# What a dead process told but did not store is read from the log, as long as it comes.
RECOVER_SECONDS = 0.5


class Desk:
    """The running answers of one process.

    Args:
        bench: what answers are made with.
        unwatched_seconds: stop an answer that nobody has followed for so long; None goes on.
    """

    def __init__(self, bench: Bench, unwatched_seconds: float | None = None) -> None:
        self._bench = bench
        self._unwatched_seconds = unwatched_seconds
        self._runs: dict[str, Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._followers: Counter[str] = Counter()
        self._scribe = Scribe(bench.store.answers, bench.worker, self.stop)
        self._pulse = Pulse(bench.store.workers, bench.worker, self._bury)

    async def open(self) -> None:
        """Give the first sign of life."""
        await self._pulse.begin()

    async def close(self) -> None:
        """End what is running, as interrupted, and stop."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for run in list(self._runs.values()):
            run.interrupt()
        for task in list(self._tasks.values()):
            with suppress(asyncio.CancelledError):
                await task
        await self._scribe.close()
        await self._pulse.close()

    def begin(self, job: Job) -> None:
        """Begin to write an answer."""
        if job.node in self._runs:
            return
        run = self._runs[job.node] = Run(job, self._bench, self._scribe)
        task = self._tasks[job.node] = asyncio.create_task(run.go())
        task.add_done_callback(lambda done: self._forget(job.node, done))
        if self._unwatched_seconds is not None:
            self._in_background(self._watch_for_followers(job.node, self._unwatched_seconds))

    def stop(self, node: str) -> bool:
        """End an answer that this process writes.

        Returns: whether it does.
        """
        if node in self._runs:
            self._runs[node].stop()
        return node in self._runs

    async def ended(self, node: str) -> None:
        """Wait until this process no longer writes an answer."""
        if node in self._tasks:
            await asyncio.wait([self._tasks[node]])

    async def follow(
        self, place: tuple[str, str, str], seal: Seal, after: int
    ) -> AsyncGenerator[Event, None]:
        """Give an answer's events after a number, and end with the final one.

        Args:
            place: the user, the conversation and the answer.
            seal: what opens the conversation.
            after: the number of the last event that is known already.
        """
        node = place[2]
        self._followers[node] += 1
        try:
            following = Following(self._bench.store, self._bench.live, place, seal)
            async with aclosing(following.events(after)) as events:
                async for event in events:
                    yield event
        finally:
            self._followers[node] -= 1
            if not self._followers[node]:
                del self._followers[node]

    def entitle(self, job: Job, question: str, *, by_model: bool) -> None:
        """Give a new conversation a title: its first words at once, the model's own later.

        Args:
            job: the first answer.
            question: the first question.
            by_model: whether the model gives one.
        """
        self._in_background(self._entitle(job, question, by_model))

    def forget_texts(self) -> None:
        """Let nothing of what was erased stay in the memories of loaded models."""
        self._bench.models.forget_texts()

    def _forget(self, node: str, task: asyncio.Task[None]) -> None:
        self._runs.pop(node, None)
        self._tasks.pop(node, None)
        self._scribe.leave(node)
        if not task.cancelled() and task.exception() is not None:
            logging.getLogger(__name__).error("answer %s broke", node, exc_info=task.exception())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _watch_for_followers(self, node: str, seconds: float) -> None:
        since = time.monotonic()
        while node in self._runs:
            if self._followers[node]:
                since = time.monotonic()
            elif time.monotonic() - since > seconds:
                self.stop(node)
                return
            await asyncio.sleep(min(1.0, seconds / 4))

    async def _entitle(self, job: Job, question: str, by_model: bool) -> None:
        rename = self._bench.store.conversations.rename
        await rename(job.user, job.conversation, short_title(question), "model")
        if not by_model:
            return
        await self.ended(job.node)
        node = await self._bench.store.nodes.find(job.user, job.conversation, job.node)
        if node.facts is None or node.facts.status != "done":
            return
        async with self._bench.models.use(job.options.model, job.options.load) as engine:
            title = await write_title(engine, question)
        if title:
            await rename(job.user, job.conversation, title, "model")

    async def _bury(self, orphan: Orphan) -> None:
        """End an answer whose writer died, with everything that it had told."""
        store = self._bench.store
        seal = await store.keys.of_conversation(orphan.user, orphan.conversation)
        node = await store.nodes.find(orphan.user, orphan.conversation, orphan.node)
        if node.facts is None:
            return
        voice = Voice(self._bench.live, node.id, seal, node.message.content, node.facts.flushed)
        await self._recover(voice, seal)
        facts = _interrupted(node.facts)
        grown = voice.growth
        growth = Growth(grown.node, grown.message, voice.seq + 1, seal)
        worker = self._bench.worker
        if await store.answers.finish(orphan.conversation, worker, growth, facts, time.time()):
            voice.tell("interrupted", facts={"model": facts.model})
        telemetry.event("answer interrupted", model=facts.model)

    async def _recover(self, voice: Voice, seal: Seal) -> None:
        """Take up what the dead process told after it last stored."""
        if not self._bench.live.shared:
            return
        with suppress(TimeoutError):
            stream = self._bench.live.follow(voice.node, voice.seq, seal)
            async with aclosing(stream):
                while True:
                    async with asyncio.timeout(RECOVER_SECONDS):
                        event = await anext(stream, None)
                    if event is None or event.final or event.seq != voice.seq + 1:
                        return
                    voice.seq = event.seq
                    voice.text += event.text if event.kind == "delta" else ""


def _interrupted(facts: AnswerFacts) -> AnswerFacts:
    return AnswerFacts(
        status="interrupted",
        model=facts.model,
        request_id=facts.request_id,
        adapter=facts.adapter,
        seed=facts.seed,
        sampling=facts.sampling,
    )


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    """Run what nobody waits for; its failure is counted and logged, and nothing else."""
    try:
        await work
    except ChatkitError as error:
        telemetry.failed(error)
