"""Shows a comparison while it comes: under a notebook's cell, or not at all."""

from collections.abc import Callable
from typing import Any, Protocol

from chatkit.comparison.result import Comparison
from chatkit.display import in_notebook


class Watcher(Protocol):
    """Is shown a comparison as it grows.

    Attributes:
        seconds: between two looks.
    """

    seconds: float

    def begin(self, comparison: Comparison, stop: Callable[[], None]) -> None:
        """Make ready; `stop` ends it from any thread."""

    def show(self, comparison: Comparison) -> None:
        """Show it as it is now."""

    def end(self, comparison: Comparison) -> None:
        """It is whole."""


class Unwatched:
    """Shows nothing: for scripts."""

    seconds = 1.0

    def begin(self, comparison: Comparison, stop: Callable[[], None]) -> None:
        """Do nothing."""

    def show(self, comparison: Comparison) -> None:
        """Do nothing."""

    def end(self, comparison: Comparison) -> None:
        """Do nothing."""


class UnderTheCell:
    """A table of the answers that grows, with a stop button above it; at the end it is plain HTML.

    Plain HTML stays readable in files, in nbviewer and where no kernel runs.
    """

    seconds = 0.25

    def __init__(self) -> None:
        self._place: Any = None
        self._button: Any = None

    def begin(self, comparison: Comparison, stop: Callable[[], None]) -> None:
        """Show the button and the empty table."""
        from IPython.display import HTML, display
        from ipywidgets import Button

        self._button = Button(description="Stop", icon="stop")
        self._button.on_click(lambda _: stop())
        display(self._button)
        self._place = display(HTML(comparison.to_html()), display_id=True)

    def show(self, comparison: Comparison) -> None:
        """Show what has come."""
        from IPython.display import HTML

        self._place.update(HTML(comparison.to_html()))

    def end(self, comparison: Comparison) -> None:
        """Show all, and take the button away."""
        self._button.close()
        self.show(comparison)


def best_watcher() -> Watcher:
    """Choose for a notebook, or for none."""
    return UnderTheCell() if in_notebook() else Unwatched()
