"""One answer while it grows: its text, and the events that tell of it."""

import asyncio
from collections.abc import Mapping
from typing import Any

from chatkit.live.event import Event, Kind
from chatkit.live.opening import Live
from chatkit.messages import Message
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
        self.reasoning = ""
        self._live = live
        self._seal = seal
        self._waiting: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = 0.0

    @property
    def growth(self) -> Growth:
        """What there is of the answer, as far as events have told of it."""
        message = Message("assistant", self.text, reasoning=self.reasoning)
        return Growth(self.node, message, self.seq, self._seal)

    def tell(self, kind: Kind, text: str = "", facts: Mapping[str, Any] | None = None) -> None:
        """Put one event into the log, after what is still waiting."""
        self.rest()
        self._append(kind, text, facts or {})

    def say(self, text: str) -> None:
        """Take a piece of the answer; it is told within `GATHER_SECONDS`."""
        if not text:
            return
        self._waiting.append(text)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            due = self._told_at + GATHER_SECONDS
            if loop.time() >= due:
                self._tell_waiting()
            else:
                self._timer = loop.call_at(due, self._tell_waiting)

    def think(self, text: str) -> None:
        """Take a piece of what the model thinks before it answers; it is kept apart."""
        self.reasoning += text

    def rest(self) -> None:
        """Tell what is still waiting."""
        if self._waiting:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        piece = "".join(self._waiting)
        self._waiting.clear()
        self.text += piece
        self._told_at = asyncio.get_running_loop().time()
        self._append("delta", piece, {})

    def _append(self, kind: Kind, text: str, facts: Mapping[str, Any]) -> None:
        self.seq += 1
        self._live.append(self.node, Event(self.seq, kind, text, facts), self._seal)
