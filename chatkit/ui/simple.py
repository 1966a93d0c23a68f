"""A chat in a notebook's cell, in twenty lines on Panel's own parts.

    from chatkit.ui.simple import simple_chat
    simple_chat("smollm2-135m")

For a page that many people use, take `panel serve serve/app.py`; see docs/app.md for what it has
over this one.
"""

import time

from panel.pane import Markdown
from panel_material_ui.chat.interface import ChatInterface
from param.parameterized import Event

from chatkit.display import Silent
from chatkit.session import load

SECONDS_BETWEEN_UPDATES = 0.1


def simple_chat(model: str, *, system: str | None = None) -> ChatInterface:
    """Make a chat with a model that shows itself as the value of a cell.

    Args:
        model: its name.
        system: the system prompt; None leaves it to the template.

    Raises:
        ChatkitError: the model cannot be loaded.
    """
    chat = load(model).chat(system=system)
    chat.display = Silent()

    def answer(question: str, user: str, page: ChatInterface) -> None:
        shown, text, due = as_text(""), "", 0.0
        page.send(shown, user=model, respond=False)
        for delta in chat.stream(question):
            text += delta.text
            if time.monotonic() >= due:
                shown.object, due = text, time.monotonic() + SECONDS_BETWEEN_UPDATES
        shown.object = text

    def send(event: Event, page: ChatInterface) -> None:
        if event.new:
            page.send(as_text(event.new))

    return ChatInterface(callback=answer, on_submit=send)


def as_text(text: str) -> Markdown:
    """Show Markdown without its HTML; Panel itself would run that, and open files by their path."""
    return Markdown(text, renderer_options={"html": False}, enable_streaming=True)
