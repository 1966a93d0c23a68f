"""Writes a growing answer onto the screen, a few times a second however fast it comes."""

import time

from chatkit.markdown import GrowingMarkdown
from chatkit.settings import settings
from chatkit.ui.bubble import Bubble
from chatkit.ui.screen import Writing

SECONDS_BETWEEN_UPDATES = 0.05


class Pen:
    """Writes one answer.

    Args:
        screen: where it is shown.
        bubble: the answer, on the screen already.
        text: what there is of it.
    """

    def __init__(self, screen: Writing, bubble: Bubble, text: str) -> None:
        self._screen = screen
        self._bubble = bubble
        self._markdown = GrowingMarkdown(settings().media)
        self._text = ""
        self._waiting = ""
        self._due = 0.0
        self._begin(text)

    def write(self, text: str) -> None:
        """Add a piece."""
        self._text += text
        self._waiting += text
        if self._waiting and time.monotonic() >= self._due:
            self.flush()

    def replace(self, text: str) -> None:
        """Show another text in place of what was written; mostly it only goes on."""
        if text.startswith(self._text):
            self.write(text[len(self._text) :])
        else:
            self._begin(text)
            self._screen.put(self._bubble)

    def flush(self) -> None:
        """Show what is still waiting."""
        began = time.monotonic()
        ended, self._bubble.tail = self._markdown.add(self._waiting)
        self._waiting = ""
        self._bubble.blocks.append(ended)
        self._bubble.steps += 1
        self._screen.grow(self._bubble, ended)
        # A long open block takes long to render; then it is rendered less often.
        spent = time.monotonic() - began
        self._due = began + max(SECONDS_BETWEEN_UPDATES, 10 * spent)

    def _begin(self, text: str) -> None:
        self._markdown = GrowingMarkdown(settings().media)
        self._text, self._waiting = text, ""
        ended, self._bubble.tail = self._markdown.add(text)
        self._bubble.blocks[:] = [ended]
