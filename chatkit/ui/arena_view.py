"""The arena in the browser; the other half is `arena.bundle.js`."""

from collections.abc import Sequence

import param
from panel.custom import JSComponent

from chatkit.ui.bubble import Bubble
from chatkit.ui.message_view import STYLES, katex_of_panel


class ArenaView(JSComponent):
    """Shows answers side by side and takes a vote; see `Stage`."""

    models = param.List(item_type=str, doc="What can be chosen.")
    maths = param.String(doc="Where Panel's own KaTeX is, seen from the page.")

    _bundle = "arena.bundle.js"

    def __init__(self, models: Sequence[str]) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            models=list(models),
            maths=katex_of_panel(),
            sizing_mode="stretch_both",
            margin=0,
            stylesheets=STYLES,
            visible=False,
        )

    def show_round(self, question: str, names: Sequence[str]) -> None:
        """Begin a round: a column for each model, by its name or by a letter."""
        self._send_msg({"op": "round", "question": question, "names": list(names)})

    def put(self, column: int, bubble: Bubble) -> None:
        """Show an answer anew."""
        self._send_msg({"op": "put", "column": column, "bubble": bubble.to_json()})

    def grow(self, column: int, bubble: Bubble, ended: str) -> None:
        """Add the HTML that has ended to an answer, and show its open tail anew."""
        growth = {"html": ended, "tail": bubble.tail, "steps": bubble.steps}
        self._send_msg({"op": "grow", "column": column, **growth})

    def show_result(self, names: Sequence[str], best: int | None, notes: Sequence[str]) -> None:
        """Tell the names and the speeds, and which answer was found best."""
        told = {"names": list(names), "best": best, "notes": list(notes)}
        self._send_msg({"op": "result", **told})
