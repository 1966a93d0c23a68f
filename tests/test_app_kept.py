"""The app keeps conversations: pages that are loaded anew, second tabs, servers that die."""

from pathlib import Path

import pytest
from browser import SLOW_APP, App, Visit, free_port, running_app, wait_until
from playwright.sync_api import expect

from chatkit.background import wait_for
from chatkit.service import shared_service
from chatkit.ui.bubble import INTERRUPTED
from chatkit.ui.visitor import visitor_of

pytest_plugins = ["visiting"]
pytestmark = pytest.mark.browser

# About five seconds of answer, and about twenty: two pages are loaded meanwhile, on a busy machine
# too.
LONG = "Say this slowly: " + " ".join(f"w{number}" for number in range(100))
LONGER = "Say this very slowly: " + " ".join(f"w{number}" for number in range(190))
BEGINNING = "You said: Say this slowly: w0 w1"
WHOLE = f"You said: {LONG}"


def test_a_reloaded_page_shows_the_conversation(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("one")
    visitor.ask("two")

    visitor.reload()

    expect(visitor.questions.locator(".text")).to_have_text(["one", "two"])
    expect(visitor.answers.locator(".text")).to_have_text(["You said: one", "You said: two"])
    assert visitor.ask("three") == "You said: three"


def test_a_running_answer_goes_on_in_a_reloaded_page_and_in_a_second_tab(
    echo_app: App, visit: Visit
) -> None:
    visitor, whole = visit(echo_app), f"You said: {LONGER}"
    visitor.send(LONGER)
    visitor.wait_for_text("w1")
    other = visitor.tab()
    visitor.reload()

    for page in (visitor, other):
        page.wait_for_text("very slowly: w0 w1")
        expect(page.answers).to_have_count(1)
    assert visitor.page.locator(".chat.answering").count()
    lengths = {len(page.answer()) for page in (visitor, other)}
    assert max(lengths) < len(whole)

    for page in (visitor, other):
        page.wait_for_end()
        assert page.answer() == whole
    other.reload()
    expect(other.answers.locator(".text")).to_have_text([whole])


@pytest.mark.slow
def test_what_is_sent_and_stopped_in_one_tab_is_seen_in_the_other(
    echo_app: App, visit: Visit
) -> None:
    visitor = visit(echo_app)
    visitor.ask("hello")
    other = visitor.tab()
    expect(other.answers).to_have_count(1)

    visitor.send(LONG)
    other.wait_for_text("w1")
    other.press("Stop")
    other.wait_for_end()

    visitor.wait_for_end()
    assert WHOLE.startswith(visitor.answer())
    assert visitor.answer() == other.answer()
    expect(visitor.answers.last.locator(".note")).to_contain_text("stopped")


@pytest.mark.slow
def test_a_page_of_another_visitor_is_refused_in_the_words_for_one_that_does_not_exist(
    echo_app: App, visit: Visit
) -> None:
    owner = visit(echo_app)
    owner.ask("a secret")

    stranger = visit(echo_app, path=f"?conversation={owner.conversation}", stranger=True)
    expect(stranger.trouble).to_contain_text("There is no such conversation")
    refused = stranger.trouble.inner_text()
    assert stranger.questions.count() == 0
    assert stranger.page.url == echo_app.url
    stranger.go(f"{echo_app.url}?conversation={'0' * 32}")

    expect(stranger.trouble).to_have_text(refused)
    assert stranger.ask("hello") == "You said: hello"
    expect(stranger.trouble).to_have_count(0)


def test_new_chat_begins_anew_and_the_old_one_stays(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("one")
    old = visitor.page.url

    new = visitor.page.get_by_role("button", name="New chat").first
    new.focus()
    new.press("Enter")
    expect(visitor.questions).to_have_count(0)
    assert visitor.page.url == echo_app.url
    visitor.ask("two")

    assert visitor.page.url not in (old, echo_app.url)
    visitor.go(old)
    expect(visitor.questions.locator(".text")).to_have_text(["one"])


def test_what_the_server_did_not_acknowledge_is_sent_again_and_is_one_message(
    echo_app: App, visit: Visit
) -> None:
    visitor = visit(echo_app)
    visitor.ask("hello")
    # The outbox as it is when the page dies between sending and the acknowledgement.
    visitor.page.evaluate(
        """() => {
            const set = Storage.prototype.setItem
            Storage.prototype.setItem = function (key, value) {
                if (key !== "chatkit.outbox" || value !== "[]") { set.call(this, key, value) }
            }
        }"""
    )
    visitor.send("only once")
    visitor.wait_for_text("You said: only once")
    visitor.reload()

    wait_until(lambda: visitor.page.evaluate("localStorage['chatkit.outbox']") == "[]", "sent")
    expect(visitor.questions.locator(".text")).to_have_text(["hello", "only once"])
    assert visitor.page.locator(".branches").count() == 0


@pytest.mark.slow
def test_a_page_comes_back_with_its_server_and_says_which_answer_was_interrupted(
    tmp_path: Path, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, home, log = free_port(), tmp_path / "home", tmp_path / "log"
    with running_app(log, home, "scripted:", script=SLOW_APP, port=port) as app:
        visitor = visit(app)
        visitor.ask("hello")
        visitor.send(LONG)
        visitor.wait_for_text("w5")
        seen = visitor.answer()
        app.process.kill()
        expect(visitor.trouble.last).to_contain_text("connection to the server was lost")
        visitor.field.fill("a draft")

    with running_app(log, home, "scripted:", script=SLOW_APP, port=port):
        expect(visitor.problem.last).to_have_text(INTERRUPTED)
        # What had come less than a quarter of a second before may be lost.
        assert visitor.answer().startswith(seen[:-40])
        expect(visitor.field).to_have_value("a draft")
        visitor.press("Try again")
        expect(visitor.page.locator(".chat.answering")).to_have_count(1)
        visitor.wait_for_text("w5")
        monkeypatch.setenv("CHATKIT_HOME", str(home))

    # A server that is stopped in good order ends its answers before it goes.
    token = visitor.page.evaluate("localStorage['chatkit.visitor']")
    service = wait_for(shared_service())
    page = wait_for(service.page(visitor_of(token), visitor.conversation))
    answer = page.messages[-1].node
    assert answer.facts is not None
    assert answer.facts.status == "interrupted"
    assert answer.message.content.startswith(BEGINNING)


@pytest.mark.slow
def test_earlier_messages_are_shown_on_demand(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    for number in range(17):
        visitor.ask(f"question {number}")

    visitor.reload()
    expect(visitor.questions).to_have_count(15)
    expect(visitor.questions.first.locator(".text")).to_have_text("question 2")
    visitor.press("Earlier messages")

    expect(visitor.questions).to_have_count(17)
    assert not visitor.page.get_by_role("button", name="Earlier messages").is_visible()
    visitor.ask("one more")
    expect(visitor.questions).to_have_count(18)


def test_an_edited_question_stands_beside_the_old_one(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("one")
    visitor.ask("two")

    visitor.questions.first.hover()
    visitor.questions.first.get_by_role("button", name="Edit").click()
    field = visitor.page.get_by_label("Edited message")
    field.fill("another one")
    field.press("Enter")

    expect(visitor.answers.locator(".text")).to_have_text(["You said: another one"])
    visitor.press("Previous question")
    expect(visitor.questions.locator(".text")).to_have_text(["one", "two"])


@pytest.mark.slow
def test_what_the_model_was_not_given_is_said(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    for word in ("first", "second", "third"):
        visitor.ask(f"{word} " * 150)

    said = visitor.answers.last.locator("summary")
    expect(said).to_have_text("2 earlier messages were left out")
    said.click()

    expect(visitor.answers.last.locator("details")).to_contain_text("the window is full")
    visitor.reload()
    expect(visitor.answers.last.locator("summary")).to_have_text("2 earlier messages were left out")


@pytest.mark.slow
def test_a_thumb_is_kept(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("hello")

    visitor.press("Good answer")
    pressed = visitor.page.get_by_role("button", name="Good answer", pressed=True)
    expect(pressed).to_be_focused()
    visitor.reload()

    expect(pressed).to_have_count(1)


@pytest.mark.slow
@pytest.mark.model
def test_the_real_models_answer_goes_on_in_a_reloaded_page(app: App, visit: Visit) -> None:
    visitor = visit(app)
    visitor.choose("Temperature", "0")
    visitor.choose("Longest answer", "250")
    visitor.send("Write a long story about a dragon and a village, with many details.")
    wait_until(lambda: bool(visitor.answer()), "the answer begins")

    visitor.reload()
    wait_until(lambda: bool(visitor.answers.count() and visitor.answer()), "the answer is there")
    beginning = visitor.answer()
    visitor.wait_for_end()

    whole = visitor.answer()
    assert whole.startswith(beginning[:-20])
    assert len(whole) > 300
    visitor.reload()
    expect(visitor.answers.last.locator(".text")).to_have_text(whole, use_inner_text=True)
    visitor.page.get_by_label("Open settings").click()
    expect(visitor.page.get_by_label("Longest answer")).to_have_value("250")
