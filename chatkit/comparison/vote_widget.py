"""The votes of a comparison under a notebook's cell, by button or key."""

from html import escape
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from chatkit.comparison.voting import Voting
from chatkit.errors import ChatkitError
from chatkit.markdown import to_html

_HERE = Path(__file__).parent


class VoteWidget(anywidget.AnyWidget):
    """Shows one pair of answers at a time and takes a choice; at the end it tells the ratings.

    Args:
        voting: goes through the pairs.
    """

    _esm = _HERE / "vote_widget.js"
    _css = _HERE / "vote_widget.css"

    pair = traitlets.Dict().tag(sync=True)
    result = traitlets.Unicode().tag(sync=True)
    error = traitlets.Unicode().tag(sync=True)

    def __init__(self, voting: Voting) -> None:
        super().__init__()
        self._voting = voting
        self.on_msg(self._chosen)
        self._show()

    def _chosen(self, _: Any, said: Any, __: Any) -> None:
        """Take what the page says; anything but its five words is no choice."""
        choice = said.get("choice") if isinstance(said, dict) else None
        try:
            if choice == "undo":
                self._voting.undo()
            elif choice in ("left", "right", "tie", "skip") and self._voting.current:
                self._voting.choose(choice)
        except ChatkitError as error:
            self.error = str(error)
            return
        self.error = ""
        self._show()

    def _show(self) -> None:
        voting = self._voting
        replies, current = voting.comparison.replies, voting.current
        pair: dict[str, Any] = {"place": voting.place, "count": len(voting.pairs)}
        if current is not None:
            pair |= {
                "question": voting.comparison.prompts[current.prompt][-1].content,
                "left": to_html(replies[current.prompt, current.left].text),
                "right": to_html(replies[current.prompt, current.right].text),
            }
        self.result = "" if current else _ratings(voting)
        self.pair = pair


def _ratings(voting: Voting) -> str:
    """Write the ratings as a table, now that names do no harm."""
    comparison = voting.comparison
    if not any(ballot.kind == "person" for ballot in comparison.ballots):
        return "<p>No vote was cast.</p>"
    rows = "".join(
        f"<tr><td>{escape(model)}</td><td>{rating.value:.0f}</td>"
        f"<td>{rating.low:.0f} to {rating.high:.0f}</td><td>{rating.votes}</td></tr>"
        for model, rating in comparison.ratings().items()
    )
    head = "<tr><th>model</th><th>rating</th><th>95 %</th><th>votes</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
