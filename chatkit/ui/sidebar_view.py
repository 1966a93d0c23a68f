"""The sidebar in the browser; the other half is `sidebar.bundle.js`."""

from collections.abc import Mapping, Sequence
from typing import Any

import param
from panel.custom import JSComponent

from chatkit.identity.account import Account
from chatkit.settings import settings
from chatkit.ui.message_view import STYLES
from chatkit.ui.preferences import Preferences


class SidebarView(JSComponent):
    """Shows a visitor's conversations and preferences; see `Shelves`.

    `on_msg` gives what the visitor does; `Library` knows what that can be. Titles and snippets
    are text.
    """

    person = param.String(doc="Who is signed in; empty for a guest.")

    admin = param.Boolean(doc="Whether they may see the administration.")

    previews = param.Boolean(doc="Whether links may show what they lead to.")

    _bundle = "sidebar.bundle.js"

    def __init__(self, account: Account | None = None) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            person=account.name if account else "",
            admin=account is not None and account.role == "admin",
            previews=settings().link_previews,
            sizing_mode="stretch_both",
            margin=0,
            stylesheets=STYLES,
        )

    def show_list(self, items: Sequence[Mapping[str, Any]], more: bool) -> None:
        """Show these conversations and no others, newest first."""
        self._send_msg({"op": "list", "items": list(items), "more": more})

    def show_found(self, query: str, hits: Sequence[Mapping[str, Any]]) -> None:
        """Show what a search has found."""
        self._send_msg({"op": "found", "query": query, "hits": list(hits)})

    def show_preferences(self, preferences: Preferences) -> None:
        """Show how the page is to look."""
        self._send_msg({"op": "preferences", "preferences": preferences.to_json()})

    def offer_undo(self, conversation: str, title: str, seconds: float) -> None:
        """Say what was deleted, as long as it can come back."""
        self._send_msg({"op": "undo", "id": conversation, "title": title, "seconds": seconds})

    def give_file(self, name: str, kind: str, text: str) -> None:
        """Let the browser save a file."""
        self._send_msg({"op": "file", "name": name, "kind": kind, "text": text})
