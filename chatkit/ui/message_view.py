"""The messages and the composer in the browser; the other half is `messages.bundle.js`."""

from collections.abc import Callable, Sequence

import param
from panel.custom import JSComponent

from chatkit.ui.bubble import Bubble


class MessageView(JSComponent):
    """Shows a conversation and lets the visitor write.

    `on_msg` gives what the visitor does: `ready`, `send` with its text, `stop` and `retry`.
    The browser sets an answer's HTML as it comes, so it must be safe; a question is text.
    """

    hint = param.String(doc="What an empty page says.")
    placeholder = param.String(doc="What the empty composer says.")

    _bundle = "messages.bundle.js"

    def __init__(self, hint: str, placeholder: str | Callable[[], str]) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            hint=hint, placeholder=placeholder, sizing_mode="stretch_both"
        )

    def show_all(self, bubbles: Sequence[Bubble]) -> None:
        """Show these messages and no others."""
        self._send_msg({"op": "show", "bubbles": [bubble.to_json() for bubble in bubbles]})

    def put(self, bubble: Bubble) -> None:
        """Show a message, in place of the one with the same id."""
        self._send_msg({"op": "put", "bubble": bubble.to_json()})

    def grow(self, bubble: Bubble, ended: str) -> None:
        """Add the HTML that has ended to a message, and show its open tail anew."""
        self._send_msg({"op": "grow", "id": bubble.id, "html": ended, "tail": bubble.tail})

    def busy(self, busy: bool) -> None:
        """Say whether an answer is under way."""
        self._send_msg({"op": "busy", "busy": busy})
