"""One answer while it grows: its text, and the events that tell of it."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from chatkit.live.event import Event, Kind
from chatkit.live.opening import Live
from chatkit.messages import assistant
from chatkit.sealing import Seal
from chatkit.store.answers import Growth

# Deltas are gathered for so long, so that a fast model does not make an event of each token.
GATHER_SECONDS = 0.02


class Voice:
    """Gathers what a model says, numbers the events and puts them into the live log.

    Args:
        live: where events go.
        node: the answer's name.
        seal: what seals its conversation.
        text: what is there already.
        seq: the number of the last event so far.
    """

    def __init__(self, live: Live, node: str, seal: Seal, text: str = "", seq: int = 0) -> None:
        self.node = node
        self.seq = seq
        self.text = text
        self._live = live
        self._seal = seal
        self._waiting: list[str] = []
        self._heard = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    @property
    def growth(self) -> Growth:
        """What there is of the answer, as far as events have told of it."""
        return Growth(self.node, assistant(self.text), self.seq, self._seal)

    async def tell(
        self, kind: Kind, text: str = "", facts: Mapping[str, Any] | None = None
    ) -> None:
        """Put one event into the log."""
        self.seq += 1
        await self._live.append(self.node, Event(self.seq, kind, text, facts or {}), self._seal)

    def say(self, text: str) -> None:
        """Take a piece of the answer; it is told within `GATHER_SECONDS`."""
        if not text:
            return
        self._waiting.append(text)
        self._heard.set()
        if self._pump is None:
            self._pump = asyncio.create_task(self._gather())

    async def rest(self) -> None:
        """Tell what is still waiting, and stop gathering."""
        if self._pump is not None:
            self._pump.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump
            self._pump = None
        await self._tell_waiting()

    async def _gather(self) -> None:
        while True:
            await self._heard.wait()
            # Shielded, since half an event told would be a hole in the numbers.
            await asyncio.shield(self._tell_waiting())
            await asyncio.sleep(GATHER_SECONDS)

    async def _tell_waiting(self) -> None:
        self._heard.clear()
        piece = "".join(self._waiting)
        self._waiting.clear()
        if piece:
            self.text += piece
            await self.tell("delta", piece)
