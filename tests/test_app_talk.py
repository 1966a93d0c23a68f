"""One visitor's conversation in the app, without a browser."""

import asyncio
import re
from collections.abc import Callable, Sequence

import pytest

from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.messages import assistant, user
from chatkit.models import Models
from chatkit.sampling import Sampling
from chatkit.ui.bubble import Bubble
from chatkit.ui.talk import Talk, Wish

pytestmark = pytest.mark.anyio


class Paper:
    """A screen that remembers what it was shown."""

    def __init__(self) -> None:
        self.bubbles: dict[str, Bubble] = {}
        self.updates = 0
        self.is_busy = False

    def show_all(self, bubbles: Sequence[Bubble]) -> None:
        self.bubbles = {bubble.id: bubble for bubble in bubbles}

    def put(self, bubble: Bubble) -> None:
        self.bubbles[bubble.id] = bubble

    def grow(self, bubble: Bubble, ended: str) -> None:
        self.updates += 1

    def busy(self, busy: bool) -> None:
        self.is_busy = busy

    @property
    def last(self) -> Bubble:
        return list(self.bubbles.values())[-1]


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def talk(paper: Paper) -> Talk:
    return Talk(paper, lambda: Wish("scripted:", "", Sampling()))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], None]:
    """Lets the scripted engine play another script."""

    def play(script: Script) -> None:
        models = Models(budget=1)
        monkeypatch.setattr("chatkit.models.open_engine", lambda *_: ScriptedEngine(script))
        monkeypatch.setattr("chatkit.ui.talk.shared_models", lambda: models)

    return play


async def said(talk: Talk, text: str) -> None:
    talk.ask(text)
    await talk.ended()


async def test_the_page_shows_what_the_conversation_holds(talk: Talk, paper: Paper) -> None:
    await said(talk, "one")
    await said(talk, "two")

    assert talk.messages == (
        user("one"),
        assistant("You said: one"),
        user("two"),
        assistant("You said: two"),
    )
    assert [bubble.text for bubble in paper.bubbles.values()] == [
        message.content for message in talk.messages
    ]
    assert not paper.is_busy


async def test_a_page_that_opens_anew_shows_everything(talk: Talk, paper: Paper) -> None:
    await said(talk, "one")
    before = list(paper.bubbles.values())
    paper.bubbles.clear()

    talk.show()

    assert list(paper.bubbles.values()) == before


async def test_asking_while_an_answer_is_under_way_does_nothing(talk: Talk) -> None:
    talk.ask("one")
    talk.ask("two")
    talk.retry()
    await talk.ended()

    assert [message.content for message in talk.messages] == ["one", "You said: one"]


async def test_the_system_prompt_and_the_sampling_reach_the_engine(
    paper: Paper, play: Callable[[Script], None]
) -> None:
    play(Script())
    plain = Talk(paper, lambda: Wish("scripted:", "", Sampling()))
    ruled = Talk(paper, lambda: Wish("scripted:", "Be brief.", Sampling(max_tokens=3)))
    await said(plain, "hello")
    read_without = tokens_read(paper.last)

    await said(ruled, "hello")

    assert paper.last.text == "You"
    assert paper.last.note.endswith("ended by the longest length")
    assert tokens_read(paper.last) > read_without


async def test_asking_again_replaces_the_answer_and_keeps_both_in_the_tree(
    talk: Talk, paper: Paper
) -> None:
    await said(talk, "one")
    first = talk.head

    talk.retry()
    await talk.ended()

    assert first and talk.head
    assert talk.head != first
    assert first in [node.id for node in talk.conversation.siblings(talk.head)]
    assert [bubble.role for bubble in paper.bubbles.values()] == ["user", "assistant"]


async def test_a_fast_answer_updates_the_page_seldom(
    talk: Talk, paper: Paper, play: Callable[[Script], None]
) -> None:
    play(Script(context=100_000))

    await said(talk, "word " * 2000)

    assert len(paper.last.text) > 10_000
    assert paper.updates < 1000


async def test_stopping_keeps_what_has_come(
    talk: Talk, paper: Paper, play: Callable[[Script], None]
) -> None:
    play(Script(token_seconds=0.01))
    talk.ask("a question with many tokens")
    await until(lambda: len(paper.last.text) > 3)

    talk.stop()
    await talk.ended()

    assert "You said: a question with many tokens".startswith(paper.last.text)
    assert paper.last.note == "scripted: · stopped"
    assert talk.messages[-1] == assistant(paper.last.text)


async def test_stopping_at_once_leaves_no_answer(talk: Talk, paper: Paper) -> None:
    talk.ask("one")
    talk.stop()
    await talk.ended()

    assert talk.messages == ()
    assert paper.last.note == "stopped"
    assert not paper.is_busy


async def test_an_engine_that_fails_midway_leaves_its_words_and_a_sentence(
    talk: Talk, paper: Paper, play: Callable[[Script], None]
) -> None:
    play(Script(fail_after=8))

    await said(talk, "one")

    assert paper.last.text == "You said"
    assert paper.last.error == "scripted: failed after 8 tokens, as its script says."
    assert re.fullmatch("request [0-9a-f]{16}", paper.last.note)
    assert talk.messages[-1] == assistant("You said")


async def test_an_error_nobody_expected_is_a_sentence_with_the_request(
    talk: Talk, paper: Paper, play: Callable[[Script], None]
) -> None:
    def answer(question: str) -> str:
        raise RuntimeError(f"secret {question}")

    play(Script(answer))

    await said(talk, "one")

    assert re.search("went wrong on the server.* request [0-9a-f]{16}", paper.last.error)
    assert "secret" not in paper.last.error
    assert talk.messages == ()


async def test_text_that_is_no_unicode_is_refused(talk: Talk, paper: Paper) -> None:
    talk.ask("\ud800")

    assert "not valid Unicode" in paper.last.error
    assert talk.messages == ()


async def until(true: Callable[[], bool]) -> None:

    while not true():
        await asyncio.sleep(0)


def tokens_read(bubble: Bubble) -> int:
    found = re.search(r"(\d+) tokens read", bubble.note)
    assert found
    return int(found[1])
