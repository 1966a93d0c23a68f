"""A visitor's conversations in the sidebar: lists, finds, renames, pins, deletes, carries."""

import asyncio
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from chatkit.chat import ChatService
from chatkit.errors import ChatkitError, InputError, NotFound
from chatkit.exchange.markdown import write_markdown
from chatkit.exchange.own import write_json
from chatkit.exchange.portable import Portable
from chatkit.exchange.reading import read_conversations
from chatkit.store.opinions import CONSENT
from chatkit.store.records import ConversationRecord
from chatkit.ui.exported_page import write_page
from chatkit.ui.preferences import Preferences, read_preferences

PAGE, HITS = 40, 30
UNDO_SECONDS = 8.0
LARGEST_IMPORT = 10_000_000
OWN = "app"
_deleting: set[asyncio.Task[None]] = set()


class Shelves(Protocol):
    """Where the list is shown."""

    def show_list(self, items: Sequence[Mapping[str, Any]], more: bool) -> None:
        """Show these conversations and no others, newest first."""

    def show_found(self, query: str, hits: Sequence[Mapping[str, Any]]) -> None:
        """Show what a search has found."""

    def show_preferences(self, preferences: Preferences) -> None:
        """Show how the page is to look."""

    def offer_undo(self, conversation: str, title: str, seconds: float) -> None:
        """Say what was deleted, as long as it can come back."""

    def give_file(self, name: str, kind: str, text: str) -> None:
        """Let the browser save a file."""


class Library:
    """Keeps the sidebar as the store has a visitor's conversations.

    Args:
        shelves: where it is shown.
        undo_seconds: how long a deletion waits.
    """

    def __init__(self, shelves: Shelves, undo_seconds: float = UNDO_SECONDS) -> None:
        self.preferences = Preferences()
        self._shelves = shelves
        self._undo_seconds = undo_seconds
        self._user = ""
        self._service: ChatService | None = None
        self._limit = PAGE
        self._shown: list[dict[str, Any]] | None = None
        self._more = False
        self._leaving: dict[str, asyncio.Task[None]] = {}
        # What is being deleted in this moment can no longer come back.
        self._going: set[str] = set()

    async def enter(self, user: str, service: ChatService) -> None:
        """Show the conversations of a user."""
        self._user, self._service = user, service
        self.preferences = _read(await service.preferences(user))
        self._shelves.show_preferences(self.preferences)
        await self.refresh()

    async def refresh(self) -> None:
        """Show the list anew, where it has changed."""
        if self._service is None:
            return
        records = await self._service.conversations(self._user, self._limit + 1)
        kept = await self._kept({record.id for record in records[: self._limit]})
        items = [
            self._item(record)
            for record in (*records[: self._limit], *kept)
            if record.id not in self._leaving
        ]
        more = len(records) > self._limit
        if (items, more) != (self._shown, self._more):
            self._shown, self._more = items, more
            self._shelves.show_list(items, more)

    def again(self) -> None:
        """Show everything to a sidebar that has nothing of it."""
        if self._shown is not None:
            self._shelves.show_preferences(self.preferences)
            self._shelves.show_list(self._shown, self._more)

    async def obey(self, message: Mapping[str, Any]) -> bool:
        """Do what the visitor did in the sidebar.

        Returns:
            Whether the conversation that was named is gone.

        Raises:
            ChatkitError: it cannot be done.
        """
        service = self._service
        if service is None:
            return False
        match message:
            case {"do": "more"}:
                self._limit += PAGE
            case {"do": "find", "query": str(query)}:
                await self._find(service, query)
                return False
            case {"do": "rename", "of": str(id), "title": str(title)} if title.strip():
                await service.rename(self._user, id, title)
            case {"do": "pin", "of": str(id), "pinned": bool(pinned)}:
                await service.conversation(self._user, id)
                await self._prefer(service, lambda now: now.pin(id, pinned))
            case {"do": "file", "of": str(id), "folder": str(folder)}:
                await service.conversation(self._user, id)
                await self._prefer(service, lambda now: now.file(id, folder))
            case {"do": "rename folder", "folder": str(folder), "name": str(name)}:
                await self._prefer(service, lambda now: now.rename_folder(folder, name))
            case {"do": "prefer", "values": Mapping() as values}:
                await self._prefer(service, lambda now: now.changed(values))
            case {"do": "delete", "of": str(id)}:
                await self._leave(service, id)
                await self.refresh()
                return True
            case {"do": "undo", "of": str(id)}:
                if id not in self._going and (task := self._leaving.pop(id, None)):
                    task.cancel()
            case {"do": "export", "of": str(id), "kind": "md" | "json" | "html" as kind}:
                (portable,) = await service.export(self._user, [id])
                name = f"{_file_name(portable.title)}.{kind}"
                self._shelves.give_file(name, *_file(portable, kind))
                return False
            case {"do": "export all"}:
                text = io.StringIO()
                write_json(await service.export(self._user), text)
                self._shelves.give_file("chatkit.json", "application/json", text.getvalue())
                return False
            case {"do": "import", "name": str(name), "text": str(text)}:
                await self._import(service, name, text)
            case _:
                return False
        await self.refresh()
        return False

    async def _kept(self, listed: set[str]) -> list[ConversationRecord]:
        """Read what is pinned or in a folder and too old for the list, the newest first.

        What was deleted in another place is not there; it goes from the preferences when they
        change.
        """
        assert self._service is not None
        kept = dict.fromkeys((*self.preferences.pinned, *self.preferences.in_folders))
        absent = [id for id in kept if id not in listed]
        found = await self._service.conversations_named(self._user, absent)
        return sorted(found, key=lambda one: one.updated, reverse=True)

    def _item(self, record: ConversationRecord) -> dict[str, Any]:
        return {
            "id": record.id,
            "title": record.title,
            "updated": record.updated,
            "pinned": record.id in self.preferences.pinned,
            "folder": self.preferences.in_folders.get(record.id, ""),
        }

    async def _find(self, service: ChatService, query: str) -> None:
        hits: list[dict[str, Any]] = []
        if query.strip():
            titles: dict[str, str] = {}
            for hit in await service.search(self._user, query, HITS):
                if hit.conversation in self._leaving:
                    continue
                if hit.conversation not in titles:
                    record = await service.conversation(self._user, hit.conversation)
                    titles[hit.conversation] = record.title
                title, snippet = titles[hit.conversation], hit.snippet
                hits.append({"id": hit.conversation, "title": title, "snippet": snippet})
        self._shelves.show_found(query, hits)

    async def _prefer(
        self, service: ChatService, change: Callable[[Preferences], Preferences]
    ) -> None:
        """Change what is stored: another tab may have changed it since this one read it."""
        stored = await service.preferences(self._user)
        preferences = change(_read(stored))
        told = {OWN: preferences.to_json(), CONSENT: preferences.trains}
        await service.prefer(self._user, stored | told)
        self.preferences = preferences
        self._shelves.show_preferences(preferences)

    async def _leave(self, service: ChatService, id: str) -> None:
        """Take a conversation from the list, and delete it when nobody wants it back."""
        record = await service.conversation(self._user, id)
        # It goes on when the page is closed: somebody was told that this is deleted.
        task = asyncio.create_task(self._delete_later(service, id))
        self._leaving[id] = task
        _deleting.add(task)
        task.add_done_callback(_deleting.discard)
        self._shelves.offer_undo(id, record.title, self._undo_seconds)

    async def _delete_later(self, service: ChatService, id: str) -> None:
        await asyncio.sleep(self._undo_seconds)
        self._going.add(id)
        try:
            await service.delete(self._user, id)
            if id in self.preferences.pinned or id in self.preferences.in_folders:
                await self._prefer(service, lambda now: now.pin(id, False).file(id, ""))
        except NotFound:
            return
        except ChatkitError:
            # It is in the list again, for another try.
            logging.getLogger(__name__).exception("a conversation was not deleted")
        finally:
            self._leaving.pop(id, None)
            self._going.discard(id)

    async def _import(self, service: ChatService, name: str, text: str) -> None:
        if len(text) > LARGEST_IMPORT:
            raise InputError(
                f"The file has {len(text):,} characters and the page takes {LARGEST_IMPORT:,}; use "
                "`python -m chatkit conversations import`."
            )
        file = io.BytesIO(text.encode())
        portables = await asyncio.to_thread(read_conversations, file, name=name)
        await service.import_conversations(self._user, portables)


def _read(stored: Mapping[str, Any]) -> Preferences:
    own = read_preferences(stored.get(OWN))
    return replace(own, trains=stored.get(CONSENT) is True)


def _file(portable: Portable, kind: str) -> tuple[str, str]:
    """Write a conversation as a file: its media type and its text."""
    text = io.StringIO()
    match kind:
        case "md":
            write_markdown(portable, text)
            return "text/markdown", text.getvalue()
        case "html":
            write_page(portable, text)
            return "text/html", text.getvalue()
        case _:
            write_json([portable], text)
            return "application/json", text.getvalue()


def _file_name(title: str) -> str:
    plain = "".join(letter if letter.isalnum() or letter in " -_" else " " for letter in title)
    return " ".join(plain.split())[:60] or "conversation"
