"""The page of one visitor."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import panel as pn
from bokeh.document import Document
from panel.io.resources import get_dist_path
from panel.util.parameters import edit_readonly
from panel.viewable import Viewable
from panel_material_ui import Button, Select
from panel_material_ui.template.base import Page

from chatkit.errors import InputError
from chatkit.service import shared_service
from chatkit.store.records import ConversationSettings
from chatkit.ui.arena import Arena
from chatkit.ui.arena_view import ArenaView
from chatkit.ui.closing import close_with_server
from chatkit.ui.drawer import Drawer
from chatkit.ui.library import Library
from chatkit.ui.message_view import MessageView
from chatkit.ui.model_names import labelled, model_names, short_name
from chatkit.ui.screen import Wish
from chatkit.ui.sidebar_view import SidebarView
from chatkit.ui.sign_in.door import door_of_page
from chatkit.ui.talk import Talk

NO_MODEL = (
    "No model is on this machine yet; run `python -m chatkit pull smollm2-135m`, "
    "then reload the page."
)

# Where the page finds the script that lets its browser import modules itself.
SCRIPTS = {"direct": "static/extensions/chatkit/direct.js"}
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

# On a phone the button is its icon; who hears the page still hears its name.
NARROW = {
    "@media (max-width: 600px)": {
        "minWidth": 0,
        "fontSize": 0,
        ".MuiButton-startIcon": {"margin": 0},
        ".MuiButton-startIcon > *": {"fontSize": "1.5rem !important"},
    }
}


class Settings:
    """The model and the drawer, as `Controls`.

    Args:
        picker: the model.
        drawer: everything else.
    """

    def __init__(self, picker: Select, drawer: Drawer) -> None:
        self._picker = picker
        self._drawer = drawer
        self._document = pn.state.curdoc

    def wish(self) -> Wish:
        """Tell how to answer; see `Controls.wish`."""
        if not self._picker.value:
            raise InputError(NO_MODEL)
        settings = ConversationSettings(self._drawer.system or None, self._drawer.policy)
        return Wish(self._picker.value, settings, self._drawer.sampling)

    def show(self, settings: ConversationSettings, model: str, sampling: Mapping[str, Any]) -> None:
        """Show how a conversation was answered so far; see `Controls.show`."""
        _when_loaded(self._document, partial(self._change, settings, model, sampling))

    def _change(
        self, settings: ConversationSettings, model: str, sampling: Mapping[str, Any]
    ) -> None:
        if model in self._picker.options.values():
            self._picker.value = model
        self._drawer.show(settings, sampling)


def _when_loaded(document: Document | None, change: Callable[[], None]) -> None:
    """Change something on a page; what changes before it has been loaded would be lost."""
    if document is None:
        change()
    else:
        document.add_next_tick_callback(partial(pn.state.onload, change))


def chat_page() -> Page:
    """Make the page of one visitor.

    Raises:
        NotSignedIn: sign-in was asked for, and nobody is signed in.
    """
    door, account = door_of_page()
    _keep_to_this_server()
    close_with_server()
    names = model_names()
    picker = Select(
        options=labelled(names),
        label="Model",
        size="small",
        max_width=280,
        sizing_mode="stretch_width",
    )
    drawer, sidebar = Drawer(), SidebarView(account)

    async def tell(model: str | None) -> None:
        drawer.tell(model or "", await (await shared_service()).speed(model or ""))

    pn.bind(tell, picker, watch=True)
    pn.state.onload(partial(tell, picker.value))
    view = MessageView(
        hint="What would you like to know?" if names else NO_MODEL,
        placeholder=pn.bind(_invitation, picker) if names else "",
        owner=account.id if account else "",
    )
    arena, controls = ArenaView(names), Settings(picker, drawer)
    rounds = Arena(arena, names, controls, shared_service)
    talk = Talk(view, controls, Library(sidebar), rounds, door)
    new = Button(label="New chat", icon="add", variant="text", margin=(5, 0), sx=NARROW)
    new.on_click(lambda _: looks.hear({"type": "new"}))
    page = _page([picker, new], sidebar, drawer, view, arena)
    looks = Looks(page, talk, view, arena)
    for part in (view, sidebar, arena):
        part.on_msg(lambda event: looks.hear(event.data))
    pn.state.on_session_destroyed(lambda _: talk.close())
    return page


def _invitation(model: str) -> Any:
    return f"Message {short_name(model)}"


class Looks:
    """Keeps the page as dark as is preferred, and notes what its switch was put to.

    Args:
        page: whose switch.
        talk: hears everything else, and what is preferred now.
        view: the conversation.
        arena: what stands in its place while models are compared.
    """

    def __init__(self, page: Page, talk: Talk, view: MessageView, arena: ArenaView) -> None:
        self._view = view
        self._arena = arena
        self._page = page
        self._talk = talk
        self._wanted: bool | None = None
        self._document = pn.state.curdoc
        page.param.watch(self._switched, "dark_theme")

    def hear(self, message: Any) -> None:
        """Take what the browser says of darkness, and pass on all other things."""
        match message:
            case {"type": "dark", "dark": bool(dark)}:
                self._wanted = dark
                _when_loaded(self._document, partial(self._darken, dark))
            case {"type": "wide"}:
                # On a phone it would cover the conversation.
                _when_loaded(self._document, self._open_sidebar)
            case {"type": "compare"}:
                self._show_arena(True)
            case {"type": "leave"}:
                self._show_arena(False)
            case {"type": "open" | "new"}:
                self._show_arena(False)
                self._talk.hear(message)
            case _:
                self._talk.hear(message)

    def _show_arena(self, shown: bool) -> None:
        self._view.visible, self._arena.visible = not shown, shown

    def _darken(self, dark: bool) -> None:
        self._page.dark_theme = dark

    def _open_sidebar(self) -> None:
        self._page.sidebar_open = True

    def _switched(self, event: Any) -> None:
        if self._wanted is not None and event.new != self._wanted:
            self._wanted = event.new
            theme = "dark" if event.new else "light"
            self._talk.hear({"type": "library", "do": "prefer", "values": {"theme": theme}})


def _keep_to_this_server() -> None:
    """Load Panel's styles from here, also when a session opens without a page.

    Panel rewrites the address of its CDN while it answers with the page. When that session has
    ended before the browser connects, it opens another one, and rewrites nothing.
    """
    if pn.state.curdoc:
        pn.state.curdoc.template_variables["dist_url"] = get_dist_path()


def _page(
    header: list[Viewable],
    sidebar: SidebarView,
    drawer: Drawer,
    view: MessageView,
    arena: ArenaView,
) -> Page:
    page = Page(
        title="chatkit",
        header=header,
        sidebar=[sidebar],
        sidebar_open=False,
        contextbar=drawer.widgets,
        contextbar_width=300,
        sidebar_width=300,
        sidebar_resizable=False,
        main=[view, arena],
        busy_indicator=None,
        theme_config=THEME,
        sx=HEADER,
        js_modules=SCRIPTS,
    )
    # Panel tells every page when it works for anybody: with fifty people there, whatever one of
    # them does would be fifty messages.
    with edit_readonly(page):
        page.busy = False
    return page
