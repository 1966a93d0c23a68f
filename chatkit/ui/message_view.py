"""The messages and the composer in the browser; the other half is `messages.bundle.js`."""

from collections.abc import Callable
from pathlib import Path

import panel
import param
from bokeh.embed.bundle import extension_dirs
from panel.custom import JSComponent

from chatkit.ui.bubble import Bubble
from chatkit.ui.screen import View

# Where the server finds what `messages.bundle.js` imports.
extension_dirs["chatkit"] = Path(__file__).parent / "static"
# Colours and formatted text, seen from the page.
STYLES = ["static/extensions/chatkit/text.css"]


def katex_of_panel() -> str:
    """Find the KaTeX that Panel ships; without it maths is shown as TeX."""
    bundled = Path(panel.__file__).parent / "dist" / "bundled" / "katex"
    found = sorted(bundled.glob("katex@*"))
    return (
        f"static/extensions/panel/bundled/katex/{found[-1].name}/dist/katex.min.js" if found else ""
    )


class MessageView(JSComponent):
    """Shows a conversation and lets the visitor write.

    `on_msg` gives what the visitor does; `Talk` knows what that can be. The browser sets an
    answer's HTML as it comes, so it must be safe; a question is text.
    """

    hint = param.String(doc="What an empty page says.")
    placeholder = param.String(doc="What the empty composer says.")

    maths = param.String(doc="Where Panel's own KaTeX is, seen from the page.")

    owner = param.String(doc="Whose texts the browser keeps; empty for a guest.")

    _bundle = "messages.bundle.js"

    def __init__(self, hint: str, placeholder: str | Callable[[], str], owner: str = "") -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            owner=owner,
            hint=hint,
            placeholder=placeholder,
            maths=katex_of_panel(),
            sizing_mode="stretch_both",
            stylesheets=STYLES,
        )

    def show_view(self, view: View) -> None:
        """Show these messages and no others."""
        self._send_msg(
            {
                "op": "show",
                "conversation": view.conversation,
                "title": view.title,
                "ids": list(view.ids),
                "bubbles": [bubble.to_json() for bubble in view.bubbles],
                "more": view.more,
                "accepted": view.accepted,
                "temporary": view.temporary,
                "below": view.below,
                "head": view.head,
            }
        )

    def put(self, bubble: Bubble) -> None:
        """Show a message anew, when it is on the page."""
        self._send_msg({"op": "put", "bubble": bubble.to_json()})

    def grow(self, bubble: Bubble, ended: str) -> None:
        """Add the HTML that has ended to a message, and show its open tail anew."""
        growth = {"html": ended, "tail": bubble.tail, "steps": bubble.steps}
        self._send_msg({"op": "grow", "id": bubble.id, **growth})

    def place(self, id: str, conversation: str) -> None:
        """Say in which new conversation the visitor's text belongs."""
        self._send_msg({"op": "place", "id": id, "conversation": conversation})

    def counted(self, id: str, tokens: int) -> None:
        """Say how many tokens a file has."""
        self._send_msg({"op": "counted", "id": id, "tokens": tokens})

    def meter(self, used: int, window: int) -> None:
        """Say how full the model's window is; nothing is known when the window is 0."""
        self._send_msg({"op": "meter", "used": used, "window": window})

    def signed_out(self) -> None:
        """Leave the page: whose it was is not signed in any more."""
        self._send_msg({"op": "leave"})

    def refuse(self, id: str, sentence: str) -> None:
        """Say why something that was sent is not stored."""
        self._send_msg({"op": "refuse", "id": id, "sentence": sentence})

    def trouble(self, sentence: str) -> None:
        """Say what is wrong; nothing is when it is empty."""
        self._send_msg({"op": "trouble", "sentence": sentence})
