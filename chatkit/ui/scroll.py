"""One conversation on one page: some of its messages, and the answers that are being written."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chatkit.chat import ChatService
from chatkit.errors import ChatkitError
from chatkit.markdown import to_html
from chatkit.rooms import is_temporary
from chatkit.settings import settings
from chatkit.shelf import Page, Shown
from chatkit.store.records import ConversationRecord
from chatkit.ui.bubble import Bubble, bubble_of, left_out
from chatkit.ui.follower import Follower
from chatkit.ui.previews import Preview, shared_previews
from chatkit.ui.screen import Screen, View

MESSAGES = 30
# A page holds no more at once, however long its conversation: what is far from what is looked at
# goes, and comes back when it is looked at.
MOST_MESSAGES = 8 * MESSAGES


class Scroll:
    """Keeps a screen as the store has a conversation.

    Args:
        service: keeps and writes it.
        place: the user and the conversation.
        screen: where it is shown.
        nudge: called when it should be read anew.
        previews: whether the visitor wants to see what links lead to.
    """

    def __init__(
        self,
        service: ChatService,
        place: tuple[str, str],
        screen: Screen,
        nudge: Callable[[], None],
        previews: Callable[[], bool] = lambda: False,
    ) -> None:
        self.place = place
        self.record: ConversationRecord | None = None
        self.path: tuple[Shown, ...] = ()
        # Where the pages end that lie below what is shown, the nearest last.
        self._below: list[str] = []
        self._service = service
        self._screen = screen
        self._nudge = nudge
        self._wants_previews = previews
        self._previews: dict[str, tuple[Preview, ...]] = {}
        self._followers: dict[str, Follower] = {}
        self._html: dict[str, str] = {}
        self._ledgers: dict[str, tuple[str, ...]] = {}
        self._windows: dict[str, int] = {}
        self._metered = (0, 0)
        self._reading: asyncio.Task[None] | None = None
        # What the browser has of each message.
        self._sent: dict[str, dict[str, Any]] = {}

    async def read(self, accepted: str = "") -> None:
        """Read it anew, and show its end with what has changed.

        Args:
            accepted: the sender's own name for what is stored by now.

        Raises:
            NotFound: it does not exist, or is someone else's.
        """
        page = await self._service.page(*self.place, limit=MESSAGES)
        before = () if self._below else self.path
        self._below.clear()
        self.record = page.conversation
        self.path = _joined(before, page)[-MOST_MESSAGES:]
        await self._show(accepted)

    async def renew(self) -> None:
        """Read what is shown anew, and stay there.

        Raises:
            NotFound: it no longer exists.
        """
        if not self._below:
            await self.read()
            return
        end, count = self.path[-1].node.id, len(self.path)
        self.path = (await self._service.page(*self.place, head=end, limit=count)).messages
        await self._show()

    async def look(self) -> None:
        """Read it anew if something has happened to it.

        Raises:
            NotFound: it no longer exists.
        """
        record = await self._service.conversation(*self.place)
        if self._below:
            # Who reads far above is not torn away by what happens at the end.
            self.record = record
        elif record != self.record or self._unfollowed():
            await self.read()

    async def older(self) -> None:
        """Show the messages before the oldest one that is shown."""
        parent = self.path[0].node.parent if self.path else None
        if parent is not None:
            page = await self._service.page(*self.place, head=parent, limit=MESSAGES)
            self.path = (*page.messages, *self.path)
            while len(self.path) > MOST_MESSAGES:
                self._below.append(self.path[-1].node.id)
                self.path = self.path[:-MESSAGES]
        await self._show()

    async def newer(self) -> None:
        """Show the messages after the newest one that is shown."""
        if self._below:
            page = await self._service.page(*self.place, head=self._below.pop(), limit=MESSAGES)
            self.path = (*self.path, *page.messages)[-MOST_MESSAGES:]
        await self._show()

    async def again(self) -> None:
        """Show everything to a browser that has nothing of it, or something else."""
        self._sent.clear()
        await self.renew()

    def close(self) -> None:
        """Show it no longer; answers go on."""
        for follower in self._followers.values():
            follower.close()
        if self._reading is not None:
            self._reading.cancel()

    async def _show(self, accepted: str = "") -> None:
        await asyncio.to_thread(self._render)
        self._follow()
        bubbles = [self._bubble(shown) for shown in self.path]
        changed = [bubble for bubble in bubbles if self._differs(bubble)]
        record = self.record
        view = View(
            conversation=self.place[1],
            title=record.title if record else "",
            ids=[bubble.id for bubble in bubbles],
            bubbles=changed,
            more=bool(self.path and self.path[0].node.parent),
            accepted=accepted,
            temporary=is_temporary(self.place[1]),
            below=bool(self._below),
            head=(record.head or "") if record else "",
        )
        self._sent = {id: self._sent[id] for id in view.ids}
        self._html = {id: self._html[id] for id in view.ids if id in self._html}
        self._screen.show_view(view)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_more())

    def _bubble(self, shown: Shown) -> Bubble:
        follower = self._followers.get(shown.node.id)
        bubble = (
            follower.bubble if follower else bubble_of(shown, self._html.get(shown.node.id, ""))
        )
        bubble.siblings = shown.siblings
        bubble.left_out = self._ledgers.get(shown.node.id, ())
        bubble.previews = self._previews.get(shown.node.id, ())
        return bubble

    def _differs(self, bubble: Bubble) -> bool:
        """Whether the browser lacks something of a message that it is not sent otherwise."""
        now, before = bubble.to_json(), self._sent.get(bubble.id)
        self._sent[bubble.id] = now
        follower = self._followers.get(bubble.id)
        if before is None or follower is None or follower.told_end:
            return now != before
        return any(now[name] != before[name] for name in ("siblings", "leftOut"))

    def _render(self) -> None:
        """Make the HTML of answers that are over; it takes long for a long conversation."""
        media = settings().media
        for shown in self.path:
            node = shown.node
            over = node.facts is None or not node.facts.open
            if node.message.role != "user" and over and node.id not in self._html:
                self._html[node.id] = to_html(node.message.content, media=media)

    def _follow(self) -> None:
        """Follow the answers on the page that are being written, and no others."""
        open_nodes = {shown.node.id: shown for shown in self.path if _open(shown)}
        for id, follower in list(self._followers.items()):
            if id not in open_nodes or not (follower.following or follower.told_end):
                follower.close()
                del self._followers[id]
        for id, shown in open_nodes.items():
            if id not in self._followers:
                facts = shown.node.facts
                assert facts is not None
                events = self._service.subscribe(*self.place, id, facts.flushed)
                text, bubble = shown.node.message.content, bubble_of(shown, "")
                self._followers[id] = Follower(self._screen, bubble, text, events, self._nudge)

    def _unfollowed(self) -> bool:
        """Whether an answer on the page may have gone on unseen."""
        return any(
            id not in self._followers or not self._followers[id].following
            for id in (shown.node.id for shown in self.path if _open(shown))
        )

    async def _read_more(self) -> None:
        await self._read_ledgers()
        if settings().link_previews and self._wants_previews():
            await self._read_previews()

    async def _read_previews(self) -> None:
        """Look at what the links of answers lead to, the newest answer first."""
        previews = shared_previews(asyncio.get_running_loop())
        for shown in reversed(self.path):
            id = shown.node.id
            if id not in self._previews and id in self._html:
                self._previews[id] = await previews.of(self._html[id])
                if self._previews[id]:
                    self._screen.put(self._bubble(shown))

    async def _read_ledgers(self) -> None:
        """Find out of which answers the model was not given everything, the newest first."""
        with suppress(ChatkitError):
            for shown in reversed(self.path):
                node = shown.node
                if node.facts is None or node.id in self._ledgers:
                    continue
                ledger = await self._service.ledger(*self.place, node.id)
                if ledger is None and _open(shown):
                    continue
                self._ledgers[node.id] = left_out(ledger) if ledger else ()
                self._windows[node.id] = ledger.window if ledger else 0
                if self._ledgers[node.id]:
                    self._screen.put(self._bubble(shown))
            self._meter()

    def _meter(self) -> None:
        """Say how full the window was after the newest answer."""
        facts = next((shown.node.facts for shown in reversed(self.path) if shown.node.facts), None)
        id = next((shown.node.id for shown in reversed(self.path) if shown.node.facts), "")
        window = self._windows.get(id, 0)
        used = (facts.prompt_tokens or 0) + (facts.completion_tokens or 0) if facts else 0
        if (used, window) != self._metered:
            self._metered = (used, window)
            self._screen.meter(used, window)


def _joined(before: tuple[Shown, ...], page: Page) -> tuple[Shown, ...]:
    """Put a conversation's newest messages after the older ones that were shown already."""
    if not page.messages:
        return ()
    first = page.messages[0].node
    for index, shown in enumerate(before):
        if shown.node.id == first.id:
            return (*before[:index], *page.messages)
        if shown.node.id == first.parent:
            return (*before[: index + 1], *page.messages)
    return page.messages


def _open(shown: Shown) -> bool:
    return shown.node.facts is not None and shown.node.facts.open
