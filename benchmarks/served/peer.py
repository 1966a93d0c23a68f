"""The peer: panel-material-ui's ChatInterface, as its documentation streams an answer."""

from collections.abc import AsyncGenerator

import panel as pn
from panel_material_ui import Button, Column
from panel_material_ui.chat.interface import ChatInterface
from panel_material_ui.chat.message import ChatMessage

from benchmarks.served.dripping import pieces

pn.extension()


async def answer(question: str, user: str, page: ChatInterface) -> AsyncGenerator[str, None]:
    text = ""
    async for piece in pieces():
        text += piece
        yield text
    # The browser has it when this one has come.
    yield text + "\n\nEND"


chat = ChatInterface(callback=answer, sizing_mode="stretch_width", height=600)


def fill(_: object) -> None:
    said = "Some *words* with `code` and a list:\n\n- one\n- two\n\nand more words after it."
    chat.objects = [
        ChatMessage(f"{said} {n}", user="User" if n % 2 == 0 else "Assistant") for n in range(300)
    ]


opener = Button(label="Open 300")
opener.on_click(fill)
Column(opener, chat).servable()
