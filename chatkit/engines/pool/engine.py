"""Several servers as one engine."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from chatkit.engine import Delta, Engine, answer_room
from chatkit.engines.pool.affinity import path_of
from chatkit.engines.pool.attempts import Attempts
from chatkit.engines.pool.configuration import read_configuration
from chatkit.engines.pool.dispatch import Request
from chatkit.engines.pool.opening import Opener, open_servers
from chatkit.engines.pool.roster import Roster
from chatkit.engines.pool.watch import Watch
from chatkit.errors import EngineError
from chatkit.prompt import Prompt, build_prompt, raw_prompt
from chatkit.sampling import Sampling

Result = TypeVar("Result")


class PoolEngine:
    """Gives each request to the server that has least to do, or has read its beginning already.

    A server that fails before its first token is left out and the next one is asked; after the
    first token the failure is the answer's end.

    Args:
        name: the model's name.
        roster: who serves.
        watch: keeps an eye on them.
    """

    def __init__(self, name: str, roster: Roster, watch: Watch) -> None:
        first = roster.dispatch.members[0].engine
        self.name = name
        self.context = roster.context
        self.template = first.template
        self.defaults = first.defaults
        self.resident_bytes = 0
        self.roster = roster
        self._watch = watch

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that at least one server has."""
        return tuple(dict.fromkeys(name for one in self._engines() for name in one.adapters))

    @property
    def waiting(self) -> int:
        """How many requests stand in the pool's queue."""
        return self.roster.dispatch.waiting

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer a prompt piece by piece; see `Engine.stream`.

        Raises:
            Overloaded: too many wait, or every server has too much to do.
            EngineError: every server failed and there is no fallback, one failed after its first
                token, or the deadline has passed.
        """
        dispatch = self.roster.dispatch
        attempts = Attempts(dispatch, self._request(prompt, sampling, adapter))
        while lease := await attempts.next():
            limit = attempts.limit(lease)
            with attempts.trying(lease):
                stream = lease.member.engine.stream(prompt, sampling, adapter)
                async with aclosing(stream) as deltas:
                    while (delta := await limit.next(deltas)) is not None:
                        if not lease.begun:
                            dispatch.begun(lease)
                        yield _with_wait(delta, attempts)
                return
        async with aclosing(self._fall_back(attempts, prompt, sampling)) as deltas:
            async for delta in deltas:
                yield delta

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[float]:
        """Give the log-likelihood of each continuation; see `Engine.score`."""
        return await self._once(prompt, lambda engine: engine.score(prompt, continuations))

    async def prompt_logprobs(self, prompt: Prompt) -> list[float | None]:
        """Give the log-probability of each token; see `Engine.prompt_logprobs`."""
        return await self._once(prompt, lambda engine: engine.prompt_logprobs(prompt))

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Give a vector for each text; see `Engine.embed`."""
        nothing = Prompt((), "", (), "")
        return await self._once(nothing, lambda engine: engine.embed(texts))

    async def health(self) -> None:
        """Return while at least one server can work, or the fallback; see `Engine.health`."""
        if any(member.alive for member in self.roster.dispatch.members):
            return
        if self.roster.fallback is None:
            raise Attempts(self.roster.dispatch, Request("", 0, None, ())).verdict()
        await self.roster.fallback.health()

    async def close(self) -> None:
        """Watch no more and close every engine."""
        await asyncio.to_thread(self._watch.end)

    def _engines(self) -> list[Engine]:
        members = self.roster.dispatch.members
        engines = [member.engine for member in members if not member.draining]
        return engines or [member.engine for member in members]

    def _request(self, prompt: Prompt, sampling: Sampling, adapter: str | None) -> Request:
        tokens = len(prompt.ids) + answer_room(prompt, sampling, self.context)
        block = self.roster.configuration.affinity.block_tokens
        return Request(prompt.user, tokens, adapter, path_of(prompt.ids, block, adapter or ""))

    async def _once(self, prompt: Prompt, ask: Callable[[Engine], Awaitable[Result]]) -> Result:
        """Ask one server for something that comes whole."""
        attempts = Attempts(self.roster.dispatch, Request(prompt.user, len(prompt.ids), None, ()))
        while lease := await attempts.next():
            with attempts.trying(lease):
                answer = await attempts.limit(lease).wait(ask(lease.member.engine))
                self.roster.dispatch.begun(lease)
                return answer
        raise attempts.verdict()

    async def _fall_back(
        self, attempts: Attempts, prompt: Prompt, sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        """Let the fallback answer, in its own template, and mark the answer as its."""
        engine, named = self.roster.fallback, self.roster.configuration.fallback
        if engine is None or named is None:
            raise attempts.verdict()
        again = (
            build_prompt(engine.template, prompt.messages)
            if prompt.messages
            else raw_prompt(engine.template.tokenizer, prompt.text)
        )
        stream = engine.stream(replace(again, user=prompt.user), sampling)
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                if delta.usage is not None:
                    marked = replace(delta.usage, answered_by=named.model)
                    delta = replace(delta, usage=marked)
                yield _with_wait(delta, attempts)


def open_pool(name: str, path: Path, opener: Opener) -> PoolEngine:
    """Open the pool that a file describes; takes a moment, so call it on a thread.

    Args:
        name: the model's name.
        path: the YAML file.
        opener: opens each server's engine.

    Raises:
        InputError: the file is none, or the servers have different templates.
        EngineError: no server can be reached.
        ChatkitError: one can never be opened.
    """
    configuration = read_configuration(path)
    opened = open_servers(configuration.servers, opener)
    if not opened.engines:
        names = ", ".join(server.name for server in opened.missing)
        raise EngineError(
            f"No server of {configuration.name} can be reached ({names}); start at least one."
        )
    fallback = opener(configuration.fallback) if configuration.fallback else None
    roster = Roster(configuration, opened, fallback, opener)
    return PoolEngine(name, roster, Watch(roster, path))


def _with_wait(delta: Delta, attempts: Attempts) -> Delta:
    """Count the wait in the pool, and for servers that failed, into an answer's times."""
    if delta.usage is None:
        return delta
    usage = delta.usage
    before = max(0.0, attempts.waited - usage.total_seconds)
    return replace(
        delta,
        usage=replace(
            usage,
            queued_seconds=usage.queued_seconds + before,
            first_token_seconds=usage.first_token_seconds + before,
            total_seconds=usage.total_seconds + before,
        ),
    )
