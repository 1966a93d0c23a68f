"""Shows one answer while it is written, by whichever process."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from chatkit import telemetry
from chatkit.errors import ChatkitError
from chatkit.live.event import Event
from chatkit.ui.bubble import Bubble
from chatkit.ui.pen import Pen
from chatkit.ui.screen import Writing


class Follower:
    """Follows an answer to its end.

    Args:
        screen: where it is shown.
        bubble: the answer.
        text: what there is of it.
        events: what comes after that.
        nudge: called when the store has more to say about it, and when nothing more comes.
    """

    def __init__(
        self,
        screen: Writing,
        bubble: Bubble,
        text: str,
        events: AsyncGenerator[Event, None],
        nudge: Callable[[], None],
    ) -> None:
        self.bubble = bubble
        self.told_end = False
        self._screen = screen
        self._nudge = nudge
        self._pen = Pen(screen, bubble, text)
        self._task = asyncio.create_task(self._follow(events))
        self._task.add_done_callback(lambda _: nudge())

    @property
    def following(self) -> bool:
        """Whether more may come."""
        return not self._task.done()

    def close(self) -> None:
        """Follow no longer; the answer goes on."""
        self._task.cancel()

    async def _follow(self, events: AsyncGenerator[Event, None]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    self._hear(event)
        except ChatkitError as error:
            # The store is asked again by and by, and says what there is.
            telemetry.failed(error)
        except Exception:
            logging.getLogger(__name__).exception("an answer is no longer followed")

    def _hear(self, event: Event) -> None:
        match event.kind:
            case "started":
                self.bubble.state = "streaming"
                self._screen.put(self.bubble)
                if event.facts.get("left_out"):
                    self._nudge()
            case "delta":
                self._pen.write(event.text)
            case "snapshot":
                self._pen.replace(event.text)
            case "done" | "stopped" | "interrupted" | "failed":
                self._pen.flush()
                self.told_end = True
                self.bubble.state, self.bubble.error = event.kind, event.text
