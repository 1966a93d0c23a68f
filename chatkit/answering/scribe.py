"""Writes growing answers into the store, all together a few times a second."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from chatkit import telemetry
from chatkit.answering.voice import Voice
from chatkit.errors import ChatkitError
from chatkit.store.answers import Answers

# With what a write takes this stays below the 250 ms that a killed process may lose.
FLUSH_SECONDS = 0.15


class Scribe:
    """Stores what running answers have become, so that a killed process loses almost nothing.

    Args:
        answers: where they are stored.
        worker: the name of this process.
        stop: called with the name of an answer whose reader asked to stop, from any process.
    """

    def __init__(self, answers: Answers, worker: str, stop: Callable[[str], object]) -> None:
        self._answers = answers
        self._worker = worker
        self._stop = stop
        self._voices: dict[str, Voice] = {}
        self._stored: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def attend(self, voice: Voice) -> None:
        """Begin to store an answer."""
        self._voices[voice.node] = voice
        if self._task is None:
            self._task = asyncio.create_task(self._write())

    def leave(self, node: str) -> None:
        """Store an answer no longer: whoever ended it stores its end."""
        self._voices.pop(node, None)
        self._stored.pop(node, None)

    async def close(self) -> None:
        """Stop writing."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _write(self) -> None:
        began = time.monotonic()
        while True:
            # From beginning to beginning: what a write takes is not waited for on top.
            await asyncio.sleep(max(0.0, began + FLUSH_SECONDS - time.monotonic()))
            began = time.monotonic()
            if not self._voices:
                continue
            grown = [
                voice.growth
                for node, voice in self._voices.items()
                if voice.seq > self._stored.get(node, 0)
            ]
            try:
                asked_to_stop = await self._answers.flush(self._worker, grown)
            except Exception as error:
                # The text is still here, and the next turn tries again: ending here would mean
                # that nothing of any answer is stored any more, and nobody would know.
                telemetry.failed(error)
                if not isinstance(error, ChatkitError):
                    logging.getLogger(__name__).exception("growing answers were not stored")
                continue
            self._stored |= {one.node: one.seq for one in grown if one.node in self._voices}
            for node in asked_to_stop:
                self._stop(node)
