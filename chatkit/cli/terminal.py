"""Renders an answer as Markdown in a terminal while it comes."""

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

FENCE = ("```", "~~~")


class MarkdownTerminal:
    """Prints each finished block once, and redraws only the block that still grows.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = ""
        self._live = Live(console=console, transient=True)

    def begin(self) -> None:
        """Make ready for an answer."""
        self._text = ""
        self._live = Live(console=self._console, transient=True, refresh_per_second=12)
        self._live.start()

    def show(self, piece: str) -> None:
        """Show what was added."""
        self._text += piece
        finished, self._text = split_blocks(self._text)
        if finished:
            self._console.print(Markdown(finished))
        self._live.update(Markdown(self._text))

    def end(self) -> None:
        """Print what is left."""
        self._live.update("")
        self._live.stop()
        if self._text.strip():
            self._console.print(Markdown(self._text))


def split_blocks(text: str) -> tuple[str, str]:
    """Cut Markdown after its last finished block: at a blank line outside of a code fence."""
    lines, open_fence, cut = text.splitlines(keepends=True), "", 0
    for index, line in enumerate(lines):
        mark = line.lstrip()[:3]
        if mark in FENCE and not open_fence:
            open_fence = mark
        elif open_fence and mark == open_fence:
            open_fence = ""
        elif not line.strip() and line.endswith("\n") and not open_fence and index:
            cut = index + 1
    return "".join(lines[:cut]), "".join(lines[cut:])
