"""One answer from being asked to its end, whatever that end is."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from chatkit import telemetry
from chatkit.answering.job import Bench, Job
from chatkit.answering.reading import fit
from chatkit.answering.scribe import Scribe
from chatkit.answering.stages import Stages
from chatkit.answering.voice import Voice
from chatkit.cache import AnswerKey, is_deterministic, prompt_hash
from chatkit.context import Plan
from chatkit.engine import Delta, Engine, observed
from chatkit.errors import ChatkitError
from chatkit.store.answers import Growth
from chatkit.store.records import AnswerFacts, Ending

# An end that cannot be stored is tried again after a pause; who waits for it is told the reason
# when it has taken so long.
STORE_SECONDS = 30.0
STORE_PAUSE_SECONDS = 1.0


class Run:
    """Writes one answer: fits the prompt, streams, stores, and says how it ended.

    Args:
        job: what is asked.
        bench: what it is made with.
        scribe: stores what there is of it while it grows.
    """

    def __init__(self, job: Job, bench: Bench, scribe: Scribe) -> None:
        self.job = job
        self.voice = Voice(bench.live, job.node, job.seal)
        self._bench = bench
        self._scribe = scribe
        self._stages = Stages()
        self._asked_to_stop = False
        self._must_end = False
        self._closing = asyncio.Event()
        self._last = Delta("")
        self._writing: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """End the answer as its reader wishes; what has come of it stays."""
        self._asked_to_stop = True
        self._leave_off()

    def interrupt(self) -> None:
        """End the answer since the process ends; what has come of it stays."""
        self._closing.set()
        self._leave_off()

    def _leave_off(self) -> None:
        self._must_end = True
        if self._writing is not None:
            self._writing.cancel()

    async def go(self) -> None:
        """Write the answer to its end; nothing is raised, the end is told and stored."""
        with telemetry.request(self.job.request_id):
            self._scribe.attend(self.voice)
            status, error = await self._outcome()
            self.voice.rest()
            self._scribe.leave(self.job.node)
            await self._end(status, error)

    async def _outcome(self) -> tuple[Ending, tuple[str, str] | None]:
        self._writing = asyncio.create_task(self._write())
        if self._must_end:
            self._writing.cancel()
        try:
            await self._writing
        except asyncio.CancelledError:
            return ("stopped" if self._asked_to_stop else "interrupted"), None
        except Exception as error:
            self._note(error)
            return "failed", self._sentence(error)
        return "done", None

    def _note(self, error: Exception) -> None:
        """Count and log what went wrong."""
        telemetry.failed(error)
        if not isinstance(error, ChatkitError):
            request = self.job.request_id
            logging.getLogger(__name__).error("request %s failed", request, exc_info=error)

    def _sentence(self, error: Exception) -> tuple[str, str]:
        """Give the kind of what went wrong and the sentence for the person."""
        if isinstance(error, ChatkitError):
            return error.kind, str(error)
        return type(error).__name__, (
            "Something went wrong on the server; try again, and if it comes back report "
            f"the request {self.job.request_id}."
        )

    async def _write(self) -> None:
        options = self.job.options
        self.voice.tell("accepted")
        self.voice.tell("queued")
        began = time.monotonic()
        async with self._bench.models.use(options.model, options.load) as engine:
            self._stages.note("load", time.monotonic() - began)
            with self._stages.time("context"):
                fitted = await fit(self._bench, self.job, engine)
                ledger = json.dumps(fitted.ledger.to_json(), ensure_ascii=False)
            await self._bench.store.answers.note_ledger(
                self.voice.growth, ledger, fitted.prompt.identity
            )
            self.voice.tell("started", facts=_opening_facts(fitted))
            await self._speak(engine, fitted)

    async def _speak(self, engine: Engine, fitted: Plan) -> None:
        key = self._cache_key(engine, fitted)
        with self._stages.time("cache"):
            known = self._bench.answers.get(key) if key else None
        if known is not None:
            self.voice.say(known[0])
            self._last = known[1]
            return
        prompt = replace(fitted.prompt, user=self.job.user)
        options = self.job.options
        stream = observed(engine, prompt, options.sampling, options.adapter)
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                self._last = delta
                self.voice.think(delta.reasoning)
                self.voice.say(delta.text)
        self.voice.rest()
        if usage := self._last.usage:
            self._stages.note("queue", usage.queued_seconds)
            self._stages.note("first token", usage.first_token_seconds - usage.queued_seconds)
            self._stages.note("writing", usage.total_seconds - usage.first_token_seconds)
        # What a stand-in has said is not what this model says.
        if key and not (usage and usage.answered_by):
            self._bench.answers.put(key, self.voice.text, self._last)

    def _cache_key(self, engine: Engine, fitted: Plan) -> AnswerKey | None:
        options = self.job.options
        drawn = options.sampling.over(engine.defaults)
        allowed = options.cached if options.cached is not None else is_deterministic(drawn)
        if not allowed:
            return None
        return AnswerKey(
            user=self.job.user,
            conversation=self.job.conversation,
            model=options.model,
            engine=self._bench.answers.load_number(engine),
            adapter=options.adapter,
            identity=fitted.prompt.identity,
            prompt=prompt_hash(fitted.prompt),
            sampling=drawn.model_dump_json(),
        )

    async def _end(self, status: Ending, error: tuple[str, str] | None) -> None:
        """Store the end, then tell of it: what is said to be done is on disk."""
        grown = self.voice.growth
        # The end has a number of its own.
        growth = Growth(grown.node, grown.message, self.voice.seq + 1, grown.seal)
        began = time.monotonic()
        try:
            mine = await self._stored(growth, self._facts(status, error), began + STORE_SECONDS)
        except Exception as problem:
            if not self._closing.is_set():
                await self._end_unstored(growth, self._sentence(problem))
        else:
            self._stages.note("store", time.monotonic() - began)
            if mine:
                await self._tell_end(status, error)
        telemetry.event("turn ended", status=status, stages=dict(self._stages.seconds))

    async def _end_unstored(self, growth: Growth, error: tuple[str, str]) -> None:
        """Say honestly that the end cannot be stored, and keep it until it can be."""
        await self._tell_end("failed", error)
        with suppress(Exception):
            await self._stored(growth, self._facts("failed", error), float("inf"))

    async def _tell_end(self, status: Ending, error: tuple[str, str] | None) -> None:
        told = _usage_facts(self._facts(status, error))
        stages = {"stage_seconds": dict(self._stages.seconds)}
        self.voice.tell(status, error[1] if error else "", {**told, **stages})

    async def _stored(self, growth: Growth, facts: AnswerFacts, until: float) -> bool:
        """Store the end; while the store cannot take it, wait with it in memory.

        A process that closes does not wait: another one, or the next start, ends the answer.

        Args:
            growth: the whole answer.
            facts: how it ended.
            until: how long to try, by the monotonic clock.

        Returns: False when another process had ended it already.

        Raises:
            Exception: whatever the last try raised.
        """
        while True:
            try:
                return await self._bench.store.answers.finish(
                    self.job.conversation, self._bench.worker, growth, facts, time.time()
                )
            except Exception as error:
                self._note(error)
                if self._closing.is_set() or time.monotonic() > until:
                    raise
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), STORE_PAUSE_SECONDS)

    def _facts(self, status: Ending, error: tuple[str, str] | None) -> AnswerFacts:
        usage = self._last.usage
        return AnswerFacts(
            status=status,
            model=(usage.answered_by if usage else "") or self.job.options.model,
            request_id=self.job.request_id,
            adapter=None if usage and usage.answered_by else self.job.options.adapter,
            seed=self.job.options.sampling.seed,
            finish=self._last.finish,
            prompt_tokens=usage.prompt_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            stage_seconds=dict(self._stages.seconds),
            error=error,
        )


def _opening_facts(fitted: Plan) -> dict[str, Any]:
    ledger = fitted.ledger
    return {
        "prompt_tokens": ledger.prompt_tokens,
        "window": ledger.window,
        "left_out": sum(line.fate != "sent" for line in ledger.lines),
    }


def _usage_facts(facts: AnswerFacts) -> Mapping[str, Any]:
    return {
        "finish": facts.finish,
        "prompt_tokens": facts.prompt_tokens,
        "cached_tokens": facts.cached_tokens,
        "completion_tokens": facts.completion_tokens,
        "model": facts.model,
    }
