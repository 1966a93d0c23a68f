"""Answers chat and completion requests: runs the engine, words replies and streams."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from chatkit.engine import Delta, Usage, WrittenToken
from serve.wire.events import DONE, event
from serve.wire.jobs import Job
from serve.wire.metrics import Times
from serve.wire.refusals import Incomplete, Refused, refused
from serve.wire.service import WireService

TGI_STATUS = 422


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Args:
        text: what was written.
        finish: why it ended.
        tokens: its tokens when they were asked for.
        usage: what it took.
    """

    text: str
    finish: str
    tokens: tuple[WrittenToken, ...]
    usage: Usage


Frame = Callable[[Job, Delta], bytes]
"""Words a piece of an answer; empty when it needs no frame."""


class OpenaiAnswers:
    """Draws answers.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: WireService) -> None:
        self._service = service

    async def whole(self, jobs: Sequence[Job]) -> list[Answer]:
        """Draw all answers of a request, side by side.

        Raises: as `Engine.stream`, and `Incomplete`.
        """
        with self._service.permits.take():
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._answer(job)) for job in jobs]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def events(
        self,
        jobs: Sequence[Job],
        frame: Frame,
        usage: Callable[[Sequence[Usage]], bytes] | None,
        *,
        done: bool = True,
    ) -> AsyncGenerator[bytes, None]:
        """Stream all answers of a request; what goes wrong is an event.

        Args:
            jobs: the answers.
            frame: words each piece.
            usage: words what it took in the end; None tells nothing.
            done: whether to end with `[DONE]`.
        """
        service, ended = self._service, False
        try:
            with service.permits.take():
                usages: list[Usage] = []
                async with aclosing(_merged([self._deltas(job) for job in jobs])) as pieces:
                    async for index, delta in pieces:
                        if delta.usage:
                            usages.append(delta.usage)
                        if piece := frame(jobs[index], delta):
                            yield piece
                if usage:
                    yield usage(once(usages))
            ended = True
        except Exception as error:
            ended = True
            said = refused(error, streaming=True)
            service.failed(said)
            yield failure(said)
        finally:
            if not ended:
                service.dropped()
        if done:
            yield DONE

    async def _answer(self, job: Job) -> Answer:
        texts: list[str] = []
        tokens: list[WrittenToken] = []
        async with aclosing(self._deltas(job)) as deltas:
            async for delta in deltas:
                texts.append(delta.text)
                tokens += delta.tokens
                if delta.finish and delta.usage:
                    return Answer("".join(texts), delta.finish, tuple(tokens), delta.usage)
        raise Incomplete

    async def _deltas(self, job: Job) -> AsyncGenerator[Delta, None]:
        """Draw one answer; it must say why it ended."""
        engine = self._service.engine
        async with aclosing(engine.stream(job.prompt, job.sampling, job.adapter)) as deltas:
            async for delta in deltas:
                yield delta
                if delta.finish and delta.usage:
                    total = time.monotonic() - job.asked
                    times = Times(0.0, delta.usage.queued_seconds, total)
                    longest = job.sampling.max_tokens or 0
                    self._service.metrics.answered(delta.usage, times, longest)
                    return
        raise Incomplete


def failure(said: Refused) -> bytes:
    """Word what went wrong in the middle of a stream."""
    error = {"message": said.error, "http_status_code": TGI_STATUS, "type": said.kind}
    return event({"error": error})


def once(usages: Sequence[Usage]) -> list[Usage]:
    """Count one prompt that has several answers once."""
    return [*usages[:1], *(replace(usage, prompt_tokens=0) for usage in usages[1:])]


async def _merged(
    streams: Sequence[AsyncGenerator[Delta, None]],
) -> AsyncGenerator[tuple[int, Delta], None]:
    """Give what several streams give, as it comes."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for delta in only:
                yield 0, delta
        return
    arrived: asyncio.Queue[tuple[int, Delta | BaseException | None]] = asyncio.Queue()

    async def listen(index: int, stream: AsyncGenerator[Delta, None]) -> None:
        try:
            async with aclosing(stream):
                async for delta in stream:
                    arrived.put_nowait((index, delta))
            arrived.put_nowait((index, None))
        except Exception as error:
            arrived.put_nowait((index, error))

    tasks = [asyncio.create_task(listen(*pair)) for pair in enumerate(streams)]
    try:
        running = len(tasks)
        while running:
            index, piece = await arrived.get()
            if isinstance(piece, Delta):
                yield index, piece
            elif piece is None:
                running -= 1
            else:
                raise piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
