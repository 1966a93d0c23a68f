"""One page of the app and its visitor, without a browser, on a real store."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from scripted_service import opened, slow_script

from chatkit.chat import ChatService
from chatkit.engines.scripted import Script
from chatkit.errors import InputError, SamplingError, StoreUnavailable
from chatkit.sampling import Sampling
from chatkit.store.records import ConversationSettings
from chatkit.ui.arena import Arena
from chatkit.ui.bubble import Bubble
from chatkit.ui.library import Library
from chatkit.ui.preferences import Preferences
from chatkit.ui.screen import View, Wish
from chatkit.ui.sign_in.door import GuestDoor
from chatkit.ui.talk import Talk
from chatkit.ui.visitor import visitor_of

pytestmark = [pytest.mark.anyio, pytest.mark.lengthy]

TOKEN = "a1" * 32
OTHER_TOKEN = "b2" * 32
OFFERED = ("scripted:", "scripted:other", "scripted:third")
WORDS = " ".join(f"w{number}" for number in range(40))


class Paper:
    """A screen that remembers what it was shown, as a browser does."""

    def __init__(self) -> None:
        self.view = View("", "", (), (), False)
        self.bubbles: dict[str, dict[str, Any]] = {}
        self.placed: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.accepted: list[str] = []
        self.said = ""
        self.updates = 0
        self.tokens: dict[str, int] = {}
        self.metered = (0, 0)

    def show_view(self, view: View) -> None:
        known = self.bubbles | {bubble.id: bubble.to_json() for bubble in view.bubbles}
        self.bubbles = {id: known[id] for id in view.ids}
        self.view = view
        self.accepted += [view.accepted] if view.accepted else []

    def put(self, bubble: Bubble) -> None:
        if bubble.id in self.bubbles:
            self.bubbles[bubble.id] = bubble.to_json()

    def grow(self, bubble: Bubble, ended: str) -> None:
        shown = self.bubbles[bubble.id]
        self.updates += 1
        assert shown["steps"] == bubble.steps - 1
        shown |= {"html": shown["html"] + ended, "tail": bubble.tail, "steps": bubble.steps}

    def place(self, id: str, conversation: str) -> None:
        self.placed[id] = conversation

    def counted(self, id: str, tokens: int) -> None:
        self.tokens[id] = tokens

    def meter(self, used: int, window: int) -> None:
        self.metered = (used, window)

    def refuse(self, id: str, sentence: str) -> None:
        self.refused[id] = sentence

    def trouble(self, sentence: str) -> None:
        self.said = sentence

    @property
    def texts(self) -> list[str]:
        """What is shown, questions as text and answers without their tags."""
        return [
            one["text"] or re.sub("<[^>]+>|\n", "", one["html"] + one["tail"])
            for one in self.bubbles.values()
        ]

    @property
    def last(self) -> dict[str, Any]:
        return list(self.bubbles.values())[-1]

    @property
    def over(self) -> bool:
        return bool(self.bubbles) and self.last["state"] not in ("sent", "queued", "streaming")


class Knobs:
    """What the visitor has set."""

    def __init__(self) -> None:
        self.settings = ConversationSettings()
        self.sampling = Sampling()
        self.error: InputError | None = None
        self.shown: tuple[ConversationSettings, str, Mapping[str, Any]] | None = None

    def wish(self) -> Wish:
        if self.error:
            raise self.error
        return Wish("scripted:", self.settings, self.sampling)

    def show(self, settings: ConversationSettings, model: str, sampling: Mapping[str, Any]) -> None:
        self.shown = (settings, model, sampling)


class Board:
    """A sidebar that notes what it is to show."""

    def __init__(self) -> None:
        self.items: list[Mapping[str, Any]] = []
        self.more = False
        self.found: list[Mapping[str, Any]] = []
        self.preferences = Preferences()
        self.undo = ""
        self.file = ("", "", "")

    def show_list(self, items: Sequence[Mapping[str, Any]], more: bool) -> None:
        self.items, self.more = list(items), more

    def show_found(self, query: str, hits: Sequence[Mapping[str, Any]]) -> None:
        self.found = list(hits)

    def show_preferences(self, preferences: Preferences) -> None:
        self.preferences = preferences

    def offer_undo(self, conversation: str, title: str, seconds: float) -> None:
        self.undo = conversation

    def give_file(self, name: str, kind: str, text: str) -> None:
        self.file = (name, kind, text)

    @property
    def titles(self) -> list[str]:
        return [str(item["title"]) for item in self.items]


class Boards:
    """A stage that notes what it is to show."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.bubbles: dict[int, dict[str, Any]] = {}
        self.result: tuple[list[str], int | None, list[str]] | None = None

    def show_round(self, question: str, names: Sequence[str]) -> None:
        self.names, self.bubbles, self.result = list(names), {}, None

    def put(self, column: int, bubble: Bubble) -> None:
        self.bubbles[column] = bubble.to_json()

    def grow(self, column: int, bubble: Bubble, ended: str) -> None:
        shown = self.bubbles[column]
        shown |= {"html": shown["html"] + ended, "tail": bubble.tail, "steps": bubble.steps}

    def show_result(self, names: Sequence[str], best: int | None, notes: Sequence[str]) -> None:
        self.result = (list(names), best, list(notes))


class Page:
    """A page of the app in front of somebody."""

    def __init__(self, service: ChatService, token: str, conversation: str = "") -> None:
        async def open_service() -> ChatService:
            return service

        self.service = service
        self.paper, self.knobs, self.board = Paper(), Knobs(), Board()
        library = Library(self.board, undo_seconds=0.2)
        self.boards = Boards()
        arena = Arena(self.boards, OFFERED, self.knobs, open_service, random.Random(0))
        self.talk = Talk(self.paper, self.knobs, library, arena, GuestDoor(), open_service)
        self._sent = 0
        self.hear(type="ready", visitor=token, conversation=conversation)

    def hear(self, **message: Any) -> None:
        self.talk.hear({"conversation": self.conversation, **message})

    @property
    def conversation(self) -> str:
        return self.paper.view.conversation

    async def send(self, text: str, id: str = "") -> None:
        """Send as the browser does, which first asks for a conversation where there is none."""
        self._sent += 1
        id = id or f"sent-{self._sent}-{text[:20]}"
        conversation = self.conversation
        if not conversation:
            self.hear(type="begin", id=id)
            await until(lambda: id in self.paper.placed or id in self.paper.refused)
            if id in self.paper.refused:
                return
            conversation = self.paper.placed[id]
        parent = list(self.paper.bubbles)[-1] if self.paper.bubbles else None
        self.hear(type="send", id=id, text=text, parent=parent, conversation=conversation)
        await until(lambda: id in self.paper.accepted or id in self.paper.refused)

    async def ask(self, text: str) -> None:
        """Send, and wait for the end of the answer."""
        before = len(self.paper.bubbles)
        await self.send(text)
        await until(lambda: len(self.paper.bubbles) > before and self.paper.over)


@asynccontextmanager
async def pages(script: Script | None = None) -> AsyncIterator[Callable[..., Page]]:
    """Opens pages on one service."""
    open_pages: list[Page] = []
    async with opened(script) as service:

        def page(token: str = TOKEN, conversation: str = "") -> Page:
            open_pages.append(Page(service, token, conversation))
            return open_pages[-1]

        yield page
        for one in open_pages:
            one.talk.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_page_that_opens_anew_shows_what_the_store_has() -> None:
    async with pages() as page:
        one = page()
        await one.ask("one")
        await one.ask("two")
        again = page(conversation=one.conversation)
        await until(lambda: len(again.paper.bubbles) == 4)

    assert again.paper.texts == ["one", "You said: one", "two", "You said: two"]
    assert again.paper.bubbles == one.paper.bubbles


@pytest.mark.lengthy
async def test_a_page_that_opens_in_the_middle_of_an_answer_sees_all_of_it() -> None:
    async with pages(slow_script(0.003)) as page:
        one = page()
        await one.send("hello")
        await until(lambda: len(one.paper.texts[-1]) > 50)
        again = page(conversation=one.conversation)
        await until(lambda: again.paper.over and one.paper.over)

    assert again.paper.texts == one.paper.texts
    assert again.paper.texts[-1].endswith("w199")


async def test_what_is_sent_on_one_page_appears_on_the_other() -> None:
    async with pages() as page:
        one = page()
        await one.ask("one")
        other = page(conversation=one.conversation)
        await until(lambda: len(other.paper.bubbles) == 2)
        await other.ask("two")
        await until(lambda: len(one.paper.bubbles) == 4 and one.paper.over)

    assert one.paper.texts == other.paper.texts


async def test_what_another_process_did_is_found_by_looking() -> None:
    async with pages() as page, opened() as elsewhere:
        one = page()
        await one.ask("one")
        away = Page(elsewhere, TOKEN, one.conversation)
        await until(lambda: len(away.paper.bubbles) == 2)
        # Notices stay in a process; these two pages are in one, and so must be kept apart.
        away.hear(type="visible", visible=True)
        await away.ask("two")
        await until(lambda: len(one.paper.bubbles) == 4 and one.paper.over)
        away.talk.close()

    assert one.paper.texts == away.paper.texts


async def test_the_same_sending_twice_is_one_message() -> None:
    async with pages() as page:
        one = page()
        await one.ask("one")
        parent = list(one.paper.bubbles)[-1]
        for _ in range(2):
            one.hear(type="send", id="twice", text="two", parent=parent)
        await until(lambda: one.paper.accepted.count("twice") == 2 and one.paper.over)

    assert one.paper.texts == ["one", "You said: one", "two", "You said: two"]
    assert all(len(shown["siblings"]) == 1 for shown in one.paper.bubbles.values())


async def test_someone_elses_conversation_is_as_if_it_did_not_exist() -> None:
    async with pages() as page:
        owner = page()
        await owner.ask("a secret")
        name = owner.conversation
        stranger, lost = page(OTHER_TOKEN, name), page(OTHER_TOKEN, "0" * 32)
        await until(lambda: bool(stranger.paper.said and lost.paper.said))
        for kind in ("send", "edit", "regenerate", "stop", "branch", "thumb"):
            node = list(owner.paper.bubbles)[-1]
            wish = {"type": kind, "id": f"try {kind}", "conversation": name, "node": node}
            stranger.hear(**wish, parent=None, text="hello", thumb="up")
        await until(lambda: len(stranger.paper.refused) == 6)

    assert stranger.paper.said.replace(name, "0" * 32) == lost.paper.said
    assert stranger.paper.texts == lost.paper.texts == []
    assert owner.paper.texts == ["a secret", "You said: a secret"]


async def test_a_refusal_stays_when_the_sidebar_is_drawn_after_the_messages() -> None:
    async with pages() as page:
        lost = page(TOKEN, "0" * 32)
        await until(lambda: bool(lost.paper.said))
        lost.hear(type="sidebar")
        lost.hear(type="send", id="later", text="hello", parent=None, conversation="0" * 32)
        await until(lambda: "later" in lost.paper.refused)

    assert "no such conversation" in lost.paper.said


@pytest.mark.parametrize("token", ["", "a1", "A1" * 32, "a1" * 33])
async def test_a_page_without_a_token_shows_nothing(token: str) -> None:
    async with pages() as page:
        one = page(token)
        await until(lambda: bool(one.paper.said))
        one.hear(type="begin", id="x")
        await until(lambda: "x" in one.paper.refused)

    assert one.paper.said == one.paper.refused["x"]
    assert "reload" in one.paper.said


async def test_the_system_prompt_and_the_sampling_reach_the_engine_and_a_page_opened_later() -> (
    None
):
    async with pages() as page:
        one = page()
        await one.ask("one")
        plain = tokens_read(one.paper.last)
        one.knobs.settings = ConversationSettings("Be brief.", "summarise")
        one.knobs.sampling = Sampling(max_tokens=3)
        one.hear(type="regenerate", id="again", node=one.paper.last["id"])
        await until(lambda: one.paper.over and len(one.paper.last["siblings"]) == 2)
        again = page(conversation=one.conversation)
        await until(lambda: again.knobs.shown is not None)

    assert one.paper.texts[-1] == "You"
    assert one.paper.last["note"].endswith("ended by the longest length")
    assert tokens_read(one.paper.last) > plain
    assert again.knobs.shown == (one.knobs.settings, "scripted:", {"max_tokens": 3})


async def test_a_system_prompt_that_was_not_touched_leaves_the_conversations_own() -> None:
    async with pages() as page, opened() as service:
        one = page()
        await one.ask("one")
        user = visitor_of(TOKEN)
        await service.configure(user, one.conversation, ConversationSettings("Be kind.", "refuse"))
        await one.ask("two")
        kept = (await service.conversation(user, one.conversation)).settings
        one.knobs.settings = ConversationSettings("Be brief.")
        await one.ask("three")
        changed = (await service.conversation(user, one.conversation)).settings

    assert kept == ConversationSettings("Be kind.", "refuse")
    assert changed == ConversationSettings("Be brief.", "refuse")


async def test_branches_can_be_gone_through() -> None:
    async with pages() as page:
        one = page()
        await one.ask("one")
        question, first = one.paper.bubbles
        one.hear(type="regenerate", id="again", node=first)
        await until(lambda: one.paper.over and first not in one.paper.bubbles)
        second = one.paper.last["id"]
        one.hear(type="branch", node=first)
        await until(lambda: first in one.paper.bubbles)
        assert one.paper.last["siblings"] == [first, second]
        one.hear(type="edit", id="other", node=question, text="two")
        await until(lambda: one.paper.over and question not in one.paper.bubbles)

    assert one.paper.texts == ["two", "You said: two"]
    assert len(next(iter(one.paper.bubbles.values()))["siblings"]) == 2


async def test_stopping_keeps_what_has_come() -> None:
    async with pages(slow_script(0.01)) as page:
        one = page()
        await one.send(WORDS)
        await until(lambda: len(one.paper.texts[-1]) > 20)
        one.hear(type="stop", node=one.paper.last["id"])
        await until(lambda: one.paper.over)

    assert one.paper.last["state"] == "stopped"
    assert one.paper.last["note"] == "scripted: · stopped"
    assert one.paper.texts[-1].startswith("w0 w1")


@pytest.mark.lengthy
async def test_leaving_the_page_does_not_stop_the_answer() -> None:
    async with pages(slow_script(0.001)) as page:
        one = page()
        await one.send("hello")
        one.talk.close()
        again = page(conversation=one.paper.placed["sent-1-hello"])
        await until(lambda: again.paper.over)

    assert again.paper.last["state"] == "done"
    assert again.paper.texts[-1].endswith("w199")


async def test_a_new_chat_leaves_the_old_one_alone() -> None:
    async with pages() as page:
        one = page()
        await one.ask("one")
        old = one.conversation
        one.hear(type="new")
        await until(lambda: one.conversation == "")
        await one.ask("two")

    assert one.paper.texts == ["two", "You said: two"]
    assert one.conversation != old


@pytest.mark.lengthy
async def test_only_the_newest_messages_are_shown_and_older_ones_on_demand() -> None:
    async with pages() as page:
        one = page()
        for number in range(20):
            await one.ask(f"question {number}")
        again = page(conversation=one.conversation)
        await until(lambda: len(again.paper.bubbles) == 30)
        assert again.paper.view.more
        again.hear(type="older")
        await until(lambda: len(again.paper.bubbles) == 40)
        await again.ask("one more")

    assert not again.paper.view.more
    assert again.paper.texts[0] == "question 0"
    assert len(again.paper.bubbles) == 42


async def test_a_fast_answer_updates_the_page_seldom() -> None:
    async with pages(Script(context=100_000)) as page:
        one = page()
        await one.ask("word " * 2000)

    assert len(one.paper.texts[-1]) > 10_000
    assert one.paper.updates < 1000


async def test_an_engine_that_fails_midway_leaves_its_words_and_a_sentence() -> None:
    async with pages(Script(fail_after=8)) as page:
        one = page()
        await one.ask("one")

    assert one.paper.texts[-1] == "You said"
    assert one.paper.last["state"] == "failed"
    assert one.paper.last["error"] == "scripted: failed after 8 tokens, as its script says."
    assert re.fullmatch("scripted: · request [0-9a-f]{16}", one.paper.last["note"])


async def test_an_error_nobody_expected_is_a_sentence_with_the_request() -> None:
    def answer(question: str) -> str:
        raise RuntimeError(f"secret {question}")

    async with pages(Script(answer)) as page:
        one = page()
        await one.ask("one")

    assert re.search("went wrong on the server.* request [0-9a-f]{16}", one.paper.last["error"])
    assert "secret" not in one.paper.last["error"]


async def test_what_is_refused_is_not_stored_and_says_why() -> None:
    async with pages() as page:
        one = page()
        await one.ask("one")
        await one.send("\ud800", id="no text")
        one.knobs.error = SamplingError("The sampling option seed is 'x'; give a whole number.")
        await one.send("two", id="no number")

    assert "not valid Unicode" in one.paper.refused["no text"]
    assert one.paper.refused["no number"].startswith("The sampling option seed")
    assert one.paper.texts == ["one", "You said: one"]


async def test_a_store_that_does_not_open_is_one_sentence() -> None:
    async def closed() -> ChatService:
        raise StoreUnavailable("The database does not answer; start it.")

    paper = Paper()
    arena = Arena(Boards(), OFFERED, Knobs(), closed)
    talk = Talk(paper, Knobs(), Library(Board()), arena, GuestDoor(), closed)
    talk.hear({"type": "ready", "visitor": TOKEN, "conversation": ""})
    await until(lambda: bool(paper.said))
    talk.hear({"type": "begin", "id": "one"})
    await until(lambda: "one" in paper.refused)
    talk.close()

    assert paper.said == paper.refused["one"] == "The database does not answer; start it."


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "message",
    [None, 1, "send", [], {}, {"type": "send"}, {"type": "older", "conversation": 3}, {"id": 1}],
)
async def test_what_no_browser_says_is_not_listened_to(message: Any) -> None:
    async with pages() as page:
        one = page()
        one.talk.hear(message)
        await one.ask("one")

    assert one.paper.texts == ["one", "You said: one"]


async def test_what_the_model_was_not_given_is_said_with_the_reason() -> None:
    async with pages(Script(context=600)) as page:
        one = page()
        for word in ("first", "second", "third"):
            await one.ask(f"{word} " * 30)
        await until(lambda: bool(one.paper.last["leftOut"]))

    heading, *reasons = one.paper.last["leftOut"]
    assert heading == "4 earlier messages were left out"
    assert "the window is full" in reasons[0]


def test_a_visitors_name_fits_the_store_and_does_not_tell_the_token() -> None:
    name = visitor_of(TOKEN)

    assert len(name) == 64
    assert TOKEN[:8] not in name
    assert name != visitor_of(OTHER_TOKEN)


def tokens_read(shown: Mapping[str, Any]) -> int:
    found = re.search(r"(\d+) tokens read", shown["note"])
    assert found
    return int(found[1])


async def test_the_tokens_of_a_file_are_counted_and_one_that_is_too_long_is_refused() -> None:
    async with pages() as page:
        one = page()
        one.hear(type="count", of="a", text="twelve bytes")
        await until(lambda: one.paper.tokens == {"a": 12})
        one.hear(type="count", of="b", text="x" * 200_001)
        await until(lambda: "200,001 characters" in one.paper.said)
