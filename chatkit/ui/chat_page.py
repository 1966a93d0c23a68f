"""The page of one visitor."""

from typing import Any

import panel as pn
from panel.io.resources import get_dist_path
from panel_material_ui import Select
from panel_material_ui.template.base import Page

from chatkit.errors import InputError
from chatkit.ui.drawer import Drawer
from chatkit.ui.message_view import MessageView
from chatkit.ui.model_names import model_names
from chatkit.ui.talk import Talk, Wish

NO_MODEL = (
    "No model is on this machine yet; run `python -m chatkit pull smollm2-135m`, "
    "then reload the page."
)

THEME = {
    "light": {
        "palette": {
            "primary": {"main": "#3b5bdb", "contrastText": "#ffffff"},
            "background": {"default": "#ffffff", "paper": "#ffffff"},
        }
    },
    "dark": {
        "palette": {
            "primary": {"main": "#91a7ff", "contrastText": "#16181d"},
            "background": {"default": "#16181d", "paper": "#16181d"},
        }
    },
}

HEADER = {
    ".MuiAppBar-root": {
        "bgcolor": "primary.contrastText",
        "color": "primary.main",
        "backgroundImage": "none",
        "boxShadow": "none",
        "borderBottom": "1px solid",
        "borderColor": "divider",
    },
    ".MuiAppBar-root .title": {"color": "primary.main", "fontSize": "1.35rem"},
}


def chat_page() -> Page:
    """Make the page of one visitor, with a conversation of its own."""
    _keep_to_this_server()
    names = model_names()
    picker = Select(
        options=list(names), label="Model", size="small", max_width=280, sizing_mode="stretch_width"
    )
    drawer = Drawer()
    view = MessageView(
        hint="What would you like to know?" if names else NO_MODEL,
        placeholder=pn.bind("Message {}".format, picker) if names else "",
    )

    def wish() -> Wish:
        if not picker.value:
            raise InputError(NO_MODEL)
        return Wish(picker.value, drawer.system, drawer.sampling)

    talk = Talk(view, wish)
    view.on_msg(lambda event: _obey(talk, event.data))
    pn.state.on_session_destroyed(lambda _: talk.stop())
    return _page(picker, drawer, view)


def _keep_to_this_server() -> None:
    """Load Panel's styles from here, also when a session opens without a page.

    Panel rewrites the address of its CDN while it answers with the page. When that session has
    ended before the browser connects, it opens another one, and rewrites nothing.
    """
    if pn.state.curdoc:
        pn.state.curdoc.template_variables["dist_url"] = get_dist_path()


def _obey(talk: Talk, message: Any) -> None:
    """Do what the visitor did in the browser; anything else is not listened to."""
    match message:
        case {"type": "ready"}:
            talk.show()
        case {"type": "send", "text": str(text)}:
            talk.ask(text)
        case {"type": "stop"}:
            talk.stop()
        case {"type": "retry"}:
            talk.retry()


def _page(picker: Select, drawer: Drawer, view: MessageView) -> Page:
    return Page(
        title="chatkit",
        header=[picker],
        sidebar=drawer.widgets,
        sidebar_open=False,
        sidebar_width=300,
        sidebar_resizable=False,
        main=[view],
        # Panel's indicator tells of every visitor's work, not of this one's.
        busy_indicator=None,
        theme_config=THEME,
        sx=HEADER,
    )
