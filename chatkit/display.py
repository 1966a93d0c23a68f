"""Shows an answer while it comes: in a notebook, in a terminal, or not at all."""

import sys
import time
from typing import Any, Protocol, TextIO

REFRESH_SECONDS = 0.1


class Display(Protocol):
    """Receives one answer after another."""

    def begin(self) -> None:
        """Make ready for an answer."""

    def show(self, piece: str) -> None:
        """Show what was added."""

    def end(self) -> None:
        """The answer is over."""


class Silent:
    """Shows nothing: for scripts, which read the reply."""

    def begin(self) -> None:
        """Do nothing."""

    def show(self, piece: str) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class Terminal:
    """Writes the answer to a terminal as it comes."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def begin(self) -> None:
        """Do nothing: the answer begins where the cursor is."""

    def show(self, piece: str) -> None:
        """Write the piece at once."""
        self._output.write(piece)
        self._output.flush()

    def end(self) -> None:
        """End the line."""
        self.show("\n")


class Notebook:
    """Renders the answer as Markdown under the cell, ten times a second at most."""

    def __init__(self) -> None:
        self._text = ""
        self._shown_at = 0.0
        self._handle: Any = None

    def begin(self) -> None:
        """Make a new place under the cell."""
        from IPython.display import Markdown, display

        self._text = ""
        self._handle = display(Markdown(""), display_id=True)

    def show(self, piece: str) -> None:
        """Add the piece, and render when it is time."""
        self._text += piece
        if time.monotonic() - self._shown_at >= REFRESH_SECONDS:
            self._render()

    def end(self) -> None:
        """Render the whole answer."""
        self._render()

    def _render(self) -> None:
        from IPython.display import Markdown

        self._shown_at = time.monotonic()
        self._handle.update(Markdown(self._text))


def best_display(output: TextIO) -> Display:
    """Choose a display: a notebook's, a terminal's, or none when the output goes elsewhere."""
    if in_notebook():
        return Notebook()
    return Terminal(output) if output.isatty() else Silent()


def in_notebook() -> bool:
    """Tell whether this runs in a notebook's kernel."""
    # Outside of IPython the question alone must not import it.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config
