"""A conversation of 1,000 messages in a browser: all of it is reached, little of it is there."""

import json
from collections.abc import Iterator

import pytest
from browser import SLOW_APP, App, Visit, Visitor, running_app
from playwright.sync_api import expect

from chatkit.background import wait_for
from chatkit.cli.opening import opened_shelf
from chatkit.exchange.reading import read_conversations
from chatkit.ui.scroll import MOST_MESSAGES
from chatkit.ui.visitor import visitor_of

pytest_plugins = "visiting"
pytestmark = pytest.mark.browser

TOKEN, MESSAGES = "ab" * 32, 1_000


@pytest.fixture(scope="module")
def long_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, str]]:
    """The app with one long conversation, and its name."""
    folder = tmp_path_factory.mktemp("long")
    said = "Some *words* with `code`:\n\n- one\n- two\n\nmessage {}."
    turns = [
        {"from": "gpt" if n % 2 else "human", "value": said.format(n)} for n in range(MESSAGES)
    ]
    file = folder / "import.json"
    file.write_text(json.dumps([{"id": "1", "conversations": turns}]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATKIT_HOME", str(folder / "home"))
        with opened_shelf() as shelf:
            portables = read_conversations(file)
            (name,) = wait_for(shelf.import_conversations(visitor_of(TOKEN), portables))
    with running_app(folder / "log", folder / "home", "scripted:", script=SLOW_APP) as app:
        yield app, name


@pytest.fixture
def reader(long_app: tuple[App, str], visit: Visit) -> Iterator[Visitor]:
    """Whoever has the long conversation, which stands open."""
    app, name = long_app
    visitor = visit(app)
    visitor.page.evaluate(f"localStorage.setItem('chatkit.visitor', '{TOKEN}')")
    visitor.go(f"{app.url}?conversation={name}")
    expect(visitor.page.locator(".message").last).to_contain_text(f"message {MESSAGES - 1}.")
    yield visitor


def scroll(visitor: Visitor, to: str, until: str) -> None:
    """Scroll to an end again and again until a message is there; count what is there meanwhile."""
    page = visitor.page
    there = page.locator(".message", has_text=until)
    for _ in range(200):
        if there.count():
            return
        page.locator(".log").evaluate(f"log => {{ log.scrollTop = {to} }}")
        page.wait_for_timeout(100)
        assert page.locator(".message").count() <= MOST_MESSAGES + 2
    raise AssertionError(f"never came to {until}")


@pytest.mark.slow
def test_the_first_message_is_reached_and_the_last_again(reader: Visitor) -> None:
    scroll(reader, "0", "message 0.")
    expect(reader.page.get_by_role("button", name="Earlier messages")).to_be_hidden()
    scroll(reader, "log.scrollHeight", f"message {MESSAGES - 1}.")
    expect(reader.page.get_by_role("button", name="Later messages")).to_be_hidden()


def test_what_is_looked_at_stays_where_it_is_while_more_comes(reader: Visitor) -> None:
    page = reader.page
    log = page.locator(".log")
    log.evaluate("log => { log.scrollTop = 1300 }")
    seen = page.locator(".message", has_text="message 980.")
    before = seen.bounding_box()
    log.evaluate("log => { log.scrollTop -= 200 }")
    expect(page.locator(".message", has_text="message 941.")).to_have_count(1)
    after = seen.bounding_box()
    assert before and after and abs(after["y"] - before["y"] - 200) < 3


@pytest.mark.slow
def test_a_thumb_far_above_leaves_the_reader_there(reader: Visitor) -> None:
    scroll(reader, "0", "message 501.")
    answer = reader.page.locator(".message", has_text="message 501.")
    answer.get_by_label("Good answer").click()
    expect(answer.get_by_label("Good answer")).to_have_attribute("aria-pressed", "true")
    expect(answer).to_be_in_viewport()


@pytest.mark.slow
def test_one_press_leads_from_far_above_to_the_end(reader: Visitor) -> None:
    scroll(reader, "0", "message 500.")
    reader.press("Go to the newest message")
    expect(reader.page.locator(".message").last).to_contain_text(f"message {MESSAGES - 1}.")
    expect(reader.page.locator(".message").last).to_be_in_viewport()


@pytest.mark.slow
def test_who_asks_from_far_above_is_answered_at_the_end(reader: Visitor) -> None:
    scroll(reader, "0", "message 500.")
    reader.send("and now?")
    expect(reader.questions.last.locator(".text")).to_have_text("and now?")
    reader.wait_for_end()
    expect(reader.answers.last).to_be_in_viewport()
    assert reader.page.locator(".branches").count() == 0
    reader.questions.last.get_by_label("Delete from here on").click()
    reader.press("Keep")
    expect(reader.questions.last.locator(".text")).to_have_text("and now?")
    reader.questions.last.get_by_label("Delete from here on").click()
    reader.press("Delete")
    expect(reader.page.locator(".message").last).to_contain_text(f"message {MESSAGES - 1}.")
