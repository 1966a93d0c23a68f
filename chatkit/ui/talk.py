"""One page and its visitor: does what is wished, and keeps the page as the conversation is."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import replace
from typing import Any

from chatkit import telemetry
from chatkit.answering.checks import checked_text
from chatkit.answering.options import AnswerOptions
from chatkit.chat import ChatService
from chatkit.errors import ChatkitError, InputError, NotFound, NotSignedIn
from chatkit.models import shared_models
from chatkit.service import shared_service
from chatkit.store.records import ConversationSettings, Feedback
from chatkit.ui.arena import Arena
from chatkit.ui.library import Library
from chatkit.ui.notices import shared_notices
from chatkit.ui.screen import Controls, Screen, View
from chatkit.ui.scroll import Scroll
from chatkit.ui.sign_in.door import Door
from chatkit.ui.visitor import NOBODY

# How often a page that is looked at asks whether another process has done something.
LOOK_SECONDS = 2.0
LOOK = {"type": "look"}
# What is done without the visitor's wish leaves alone what the last wish came to.
UNASKED = ("look", "visible", "again", "sidebar")
GONE = "There is no such conversation of yours; a new one begins here."
FRESH = View(conversation="", title="", ids=(), bubbles=(), more=False)


class Talk:
    """What one page shows, and what its visitor does there, one thing after the other.

    Args:
        screen: where it is shown.
        controls: what the visitor sets beside the conversation.
        library: the visitor's other conversations.
        arena: models side by side.
        door: says whose page it is.
        opened: gives the chat service.
    """

    def __init__(
        self,
        screen: Screen,
        controls: Controls,
        library: Library,
        arena: Arena,
        door: Door,
        opened: Callable[[], Awaitable[ChatService]] = shared_service,
    ) -> None:
        self._screen = screen
        self._controls = controls
        self._library = library
        self._arena = arena
        self._door = door
        self._opened = opened
        self._user = ""
        self._wanted = ""
        self._settings = ConversationSettings()
        self._temporary = False
        self._scroll: Scroll | None = None
        self._visible = True
        self._trouble = ("", False)
        self._heard: asyncio.Queue[Any] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def hear(self, message: Any) -> None:
        """Take what the browser says; it is done when its turn comes."""
        self._heard.put_nowait(message)
        if self._task is None:
            # In a context of its own: knowing the page's document, Panel would write to the browser
            # past its lock, and what is sent in one place could overtake what is sent in another.
            self._task = asyncio.get_running_loop().create_task(self._live(), context=Context())

    def close(self) -> None:
        """Show nothing more; answers that are under way go on."""
        if self._task is not None:
            self._task.cancel()
        self._leave()
        self._arena.close()

    async def _live(self) -> None:
        while True:
            await self._carefully(await self._next())

    async def _next(self) -> Any:
        """Give what was said next; when nothing is, it is time to look."""
        looking = self._visible and self._wanted
        try:
            async with asyncio.timeout(LOOK_SECONDS if looking else None):
                return await self._heard.get()
        except TimeoutError:
            return LOOK

    async def _carefully(self, message: Any) -> None:
        """Do it, and say in one sentence what went wrong."""
        sentence = ""
        try:
            with telemetry.request() as request:
                await self._obey(message)
        except NotSignedIn:
            self._leave()
            self._user = self._wanted = ""
            self._screen.signed_out()
        except ChatkitError as error:
            sentence = str(error)
        except Exception:
            logging.getLogger(__name__).exception("request %s failed", request)
            sentence = (
                "Something went wrong on the server; try again, "
                f"and if it comes back report the request {request}."
            )
        match message:
            case {"id": str(id)} if sentence:
                self._trouble = (sentence, False)
                self._screen.refuse(id, sentence)
            case {"type": kind}:
                self._say(sentence, unasked=kind in UNASKED)

    def _say(self, sentence: str, unasked: bool) -> None:
        before, unasked_before = self._trouble
        if sentence != before and (sentence or not unasked or unasked_before):
            self._trouble = (sentence, unasked)
            self._screen.trouble(sentence)

    async def _obey(self, message: Any) -> None:
        """Do what the visitor did in the browser; anything else is not listened to."""
        if self._user:
            await self._door.check()
        match message:
            case {"type": "ready", "visitor": str(token), "conversation": str(conversation)}:
                self._user = await self._door.enter(token)
                self._arena.enter(self._user)
                await self._library.enter(self._user, await self._opened())
                await self._go(conversation)
            case {"type": "sidebar"}:
                self._library.again()
            case {"type": str()} if not self._user and message != LOOK:
                raise InputError(NOBODY)
            case {"type": "new"}:
                self._temporary = message.get("temporary") is True
                await self._go("")
            case {"type": "open", "conversation": str(conversation)}:
                await self._go(conversation)
            case {"type": "arena"}:
                await self._arena.obey(message)
            case {"type": "count", "of": str(id), "text": str(text)}:
                self._screen.counted(id, await self._count(checked_text(text)))
            case {"type": "library"}:
                if await self._library.obey(message) and message["of"] == self._wanted:
                    await self._go("")
            case {"type": "visible", "visible": bool(visible)}:
                self._visible = visible
                await self._look()
            case {"type": "look"}:
                await self._look()
            case {"type": "begin", "id": str(id)}:
                await self._begin(id)
            case {"conversation": str(conversation)}:
                await self._act(await self._opened(), conversation, message)
                await self._library.refresh()

    async def _count(self, text: str) -> int:
        """Count a text's tokens for the model that is chosen."""
        async with shared_models().use(self._controls.wish().model) as engine:
            return len(await asyncio.to_thread(engine.template.tokenizer.encode, text))

    async def _act(
        self, service: ChatService, conversation: str, message: Mapping[str, Any]
    ) -> None:
        """Do something in a conversation, and show what comes of it."""
        place, sent = (self._user, conversation), ""
        match message:
            case {
                "type": "send",
                "id": str(id),
                "text": str(text),
                "parent": str() | None as parent,
            }:
                options = await self._options(service, conversation)
                await service.send(*place, text, options, client_id=id, parent=parent)
                sent = id
            case {"type": "edit", "id": str(id), "text": str(text), "node": str(node)}:
                options = await self._options(service, conversation)
                await service.edit(*place, node, text, options, client_id=id)
                sent = id
            case {"type": "regenerate", "id": str(id), "node": str(node)}:
                options = await self._options(service, conversation)
                await service.regenerate(*place, node, options, client_id=id)
            case {"type": "stop", "node": str(node)}:
                await service.stop(*place, node)
                return
            case {"type": "branch", "node": str(node)}:
                await service.select_branch(*place, node)
            case {"type": "thumb", "node": str(node), "thumb": "up" | "down" | None as thumb}:
                await service.feedback(*place, node, _opinion(thumb, message))
                await self._enter(service, conversation).renew()
                shared_notices.tell(conversation, self._nudge)
                return
            case {"type": "fork", "node": str(node)}:
                await self._go(await service.fork(*place, node))
                return
            case {"type": "delete branch", "node": str(node)}:
                await service.delete_branch(*place, node)
            case {"type": "older"} if self._scroll is not None:
                await self._scroll.older()
                return
            case {"type": "newer"} if self._scroll is not None:
                await self._scroll.newer()
                return
            case {"type": "newest"} if self._scroll is not None:
                await self._scroll.read()
                return
            case {"type": "again"} if self._scroll is not None:
                await self._scroll.again()
                return
            case _:
                return
        await self._enter(service, conversation).read(accepted=sent)
        shared_notices.tell(conversation, self._nudge)

    async def _options(self, service: ChatService, conversation: str) -> AnswerOptions:
        """Tell how to answer now; what was changed in the settings counts from here on."""
        wish = self._controls.wish()
        if wish.settings != self._settings:
            record = await service.conversation(self._user, conversation)
            settings = _changed(record.settings, self._settings, wish.settings)
            await service.configure(self._user, conversation, settings)
            self._settings = wish.settings
        return AnswerOptions(wish.model, wish.sampling)

    async def _begin(self, id: str) -> None:
        """Begin a conversation for a text that the browser has not sent yet.

        The browser keeps the name with the text: sent twice, it is twice the same message.
        """
        wish = self._controls.wish()
        service = await self._opened()
        conversation = await service.begin(self._user, wish.settings, temporary=self._temporary)
        self._settings = wish.settings
        self._screen.place(id, conversation)

    async def _go(self, conversation: str) -> None:
        """Show a conversation, or an empty page for a new one."""
        self._leave()
        self._wanted = conversation
        if not conversation:
            self._screen.show_view(replace(FRESH, temporary=self._temporary))
            await self._opened()
            return
        scroll = self._enter(await self._opened(), conversation)
        await self._read(scroll)
        answers = [shown.node.facts for shown in scroll.path if shown.node.facts]
        model, sampling = (answers[-1].model, answers[-1].sampling) if answers else ("", {})
        self._settings = scroll.record.settings if scroll.record else ConversationSettings()
        self._controls.show(self._settings, model, sampling)

    async def _look(self) -> None:
        if self._scroll is not None:
            before = self._scroll.record
            await self._read(self._scroll)
            if self._scroll is not None and self._scroll.record != before:
                await self._library.refresh()
        elif self._wanted:
            await self._go(self._wanted)

    async def _read(self, scroll: Scroll) -> None:
        """Read a conversation anew; one that is gone or was never there gives an empty page."""
        try:
            await scroll.look()
        except NotFound:
            self._leave()
            self._wanted = ""
            self._screen.show_view(FRESH)
            raise NotFound(GONE) from None

    def _enter(self, service: ChatService, conversation: str) -> Scroll:
        if self._scroll is None or self._scroll.place[1] != conversation:
            self._leave()
            place = (self._user, conversation)
            self._scroll = Scroll(
                service,
                place,
                self._screen,
                self._nudge,
                lambda: self._library.preferences.previews,
            )
            self._wanted = conversation
            shared_notices.join(conversation, self._nudge)
        return self._scroll

    def _leave(self) -> None:
        if self._scroll is not None:
            self._scroll.close()
            shared_notices.leave(self._scroll.place[1], self._nudge)
            self._scroll = None

    def _nudge(self) -> None:
        """Look as soon as everything before has been done."""
        self.hear(LOOK)


def _opinion(thumb: Any, message: Mapping[str, Any]) -> Feedback:
    """Read what a visitor thinks of an answer, and why."""
    tags, comment = message.get("tags"), message.get("comment")
    known = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return Feedback(thumb, tuple(known[:10]), comment if isinstance(comment, str) else "")


def _changed(
    stored: ConversationSettings, shown: ConversationSettings, wished: ConversationSettings
) -> ConversationSettings:
    """Change what the visitor has changed; the rest may have been set elsewhere meanwhile."""
    system = wished.system if wished.system != shown.system else stored.system
    policy = wished.policy if wished.policy != shown.policy else stored.policy
    return ConversationSettings(system, policy)
