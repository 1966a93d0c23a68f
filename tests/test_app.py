"""The app in a real browser."""

import re
import time
from pathlib import Path

import pytest
from browser import PAYLOADS, App, Visit, Visitor, plain, running_app, wait_until
from playwright.sync_api import Browser, Route, expect

from chatkit.background import wait_for
from chatkit.engine import complete
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.messages import user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

pytest_plugins = ["visiting"]
pytestmark = pytest.mark.browser

STORY = "Write a long story about a dragon and a village, with many details."
SCROLLED = "log => log.scrollTop"


def test_nothing_runs_or_is_fetched_that_a_message_or_an_answer_says(
    echo_app: App, visit: Visit
) -> None:
    visitor = visit(echo_app)
    for payload in PAYLOADS:
        visitor.ask(payload)
    assert_harmless(visitor)

    # The same once more as it comes from the store.
    visitor.reload()
    assert_harmless(visitor)


def test_a_message_that_is_a_path_is_text(echo_app: App, visit: Visit, tmp_path: Path) -> None:
    secret = tmp_path / "secret.svg"
    secret.write_text("<svg xmlns='http://www.w3.org/2000/svg'><text>hidden</text></svg>")

    answer = visit(echo_app).ask(str(secret))

    assert answer == f"You said: {secret}"


def test_markdown_is_formatted(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)

    visitor.ask("a list\n\n* one\n* **two**\n\n```python\nx = 1\n```")

    answer = visitor.answers.last
    expect(answer.locator("li")).to_have_text(["one", "two"])
    expect(answer.locator("li strong")).to_have_text("two")
    expect(answer.locator("pre")).to_have_text("x = 1\n")


def test_enter_sends_and_shift_enter_begins_a_line(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)

    visitor.field.fill("first")
    visitor.field.press("Shift+Enter")
    visitor.field.type("second")
    visitor.field.press("Enter")

    expect(visitor.questions.last.locator(".text")).to_have_text("first\nsecond")
    expect(visitor.field).to_have_value("")


def test_an_empty_message_does_nothing(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)

    visitor.send("  \n ")
    visitor.ask("something")

    assert visitor.questions.count() == 1


def test_a_prompt_that_is_too_long_is_one_sentence_and_the_talk_goes_on(
    echo_app: App, visit: Visit
) -> None:
    visitor = visit(echo_app)
    visitor.ask("short")

    visitor.ask("long " * 2000)

    expect(visitor.problem.last).to_have_text(
        re.compile(r"^The question [^.]+ take 10019 tokens, and the window of 4096 [^.]+\.$")
    )
    assert visitor.ask("short again") == "You said: short again"
    assert "traceback" not in visitor.page.content().lower()


def test_a_setting_that_is_no_number_is_one_sentence(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.choose("Temperature", "warm")

    visitor.send("hello")
    expect(visitor.problem).to_contain_text("The sampling option temperature is 'warm'")
    visitor.choose("Temperature", "1")
    visitor.press("Send again")

    visitor.wait_for_text("You said: hello")
    expect(visitor.questions).to_have_count(1)


def test_a_conversation_that_comes_takes_no_focus_from_a_setting(
    echo_app: App, visit: Visit
) -> None:
    visitor = visit(echo_app)
    visitor.ask("hello")
    visitor.press("New chat")
    expect(visitor.answers).to_have_count(0)
    visitor.page.get_by_label("Open settings").click()
    visitor.page.get_by_label("Temperature").click()

    visitor.page.evaluate("history.back()")
    expect(visitor.answers).to_have_count(1)

    expect(visitor.page.get_by_label("Temperature")).to_be_focused()
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.get_by_label("Temperature")).to_be_hidden()


def test_the_answer_can_be_asked_for_again(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("hello")

    visitor.press("Answer again")
    expect(visitor.answers.last).to_contain_text("2/2")
    visitor.wait_for_end()

    expect(visitor.answers).to_have_count(1)
    assert visitor.answer() == "You said: hello"
    visitor.press("Previous answer")
    expect(visitor.answers.last).to_contain_text("1/2")


def test_while_an_answer_is_written_no_button_is_there_that_would_do_nothing(
    echo_app: App, visit: Visit
) -> None:
    visitor = visit(echo_app)
    visitor.ask("hello")
    visitor.press("Answer again")
    expect(visitor.answers.last).to_contain_text("2/2")
    visitor.wait_for_end()
    useless = visitor.page.get_by_role("button", name=re.compile("Previous answer|Delete"))
    expect(useless.first).to_be_visible()

    visitor.send("slowly " + "word " * 40)
    expect(visitor.page.locator(".chat.answering")).to_be_visible()

    expect(useless).to_have_count(0)
    expect(visitor.page.get_by_text("2/2")).to_be_visible()
    visitor.page.get_by_label("Stop").click()
    expect(useless.first).to_be_visible()


def test_what_an_answer_took_stands_under_it(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)

    visitor.ask("hello")

    note = visitor.answers.last.locator(".note")
    expect(note).to_have_text(re.compile(r"^scripted: · \d+ tokens read, 15 written"))


def test_a_visitor_is_told_when_the_server_has_gone(tmp_path: Path, visit: Visit) -> None:
    with running_app(tmp_path / "log", tmp_path, "scripted:") as app:
        visitor = visit(app)

    expect(visitor.trouble.last).to_contain_text("connection to the server was lost")


@pytest.mark.slow
def test_a_page_that_comes_slowly_asks_nobody_else_either(tmp_path: Path, browser: Browser) -> None:
    def come_late(route: Route) -> None:
        time.sleep(3)
        route.continue_()

    page = browser.new_page()
    page.route("**/bokeh.min.js*", come_late)
    with running_app(tmp_path / "log", tmp_path, "scripted:", unused_seconds=1) as app:
        visitor = Visitor(page, app)
        assert "hello" in visitor.ask("hello")
    assert visitor.strangers() == []


def test_the_browser_imports_the_components_itself(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)

    entries = visitor.page.evaluate(
        """() => performance.getEntriesByType("resource")
            .filter(entry => /bundle\\.js|chatkit\\/\\w+\\.js/.test(entry.name))
            .map(entry => [entry.name, entry.initiatorType])"""
    )
    assert len(entries) > 8
    assert {by for _, by in entries} == {"script"}, entries


def test_without_a_model_the_page_says_how_to_get_one(tmp_path: Path, visit: Visit) -> None:
    with running_app(tmp_path / "log", tmp_path / "home") as app:
        visitor = visit(app)

        expect(visitor.page.locator(".hint")).to_contain_text("chatkit pull smollm2-135m")
        visitor.send("hello")
        expect(visitor.problem).to_contain_text("No model is on this")


@pytest.mark.model
def test_the_answer_of_the_real_model_grows_on_the_page(
    app: App, visit: Visit, llamacpp: LlamaCppEngine
) -> None:
    visitor = visit(app)
    visitor.choose("Temperature", "0")
    visitor.choose("Longest answer", "150")
    question = "Write three sentences about the sea."

    visitor.send(question)
    visitor.answers.last.wait_for()
    seen = {""}
    while visitor.page.locator(".chat.answering").count():
        seen.add(visitor.answer())

    final = visitor.answer()
    assert len(seen) > 3
    assert all(plain(final).startswith(plain(text)) for text in seen)
    assert plain(final) == plain(greedy_answer(llamacpp, question, 150))


@pytest.mark.model
def test_stop_keeps_what_has_come(app: App, visit: Visit) -> None:
    visitor = visit(app)
    visitor.choose("Temperature", "0")
    visitor.send(STORY)
    expect(visitor.answers.last.locator(".text")).not_to_have_text("")

    visitor.page.get_by_label("Stop").click()
    visitor.wait_for_end()

    partial = visitor.answer()
    expect(visitor.answers.last.locator(".note")).to_contain_text("stopped")
    visitor.choose("Longest answer", "20")
    assert visitor.ask("Say yes.")
    assert partial
    assert visitor.answers.first.locator(".text").inner_text() == partial


@pytest.mark.slow
@pytest.mark.model
def test_the_newest_words_are_followed_unless_the_visitor_scrolls_back(
    app: App, visit: Visit
) -> None:
    visitor = visit(app)
    log = visitor.page.get_by_role("log")
    visitor.page.set_viewport_size({"width": 1000, "height": 400})
    visitor.choose("Temperature", "0")
    visitor.send(STORY)
    wait_until(lambda: log.evaluate(SCROLLED) > 100, "the page scrolls")

    log.evaluate("log => log.scrollTop = 0")
    length = len(visitor.answer())
    wait_until(lambda: len(visitor.answer()) > length + 20, "the answer is longer")

    assert log.evaluate(SCROLLED) == 0
    visitor.page.get_by_label("Go to the newest message").click()
    wait_until(lambda: log.evaluate(SCROLLED) > 100, "the page is at its end again")
    visitor.page.get_by_label("Stop").click()


@pytest.mark.model
def test_two_visitors_at_once_share_one_engine(app: App, visit: Visit) -> None:
    one, other = visit(app), visit(app, stranger=True)
    one.choose("Longest answer", "100")
    other.choose("Longest answer", "100")

    one.send("Name a colour.")
    other.send("Name an animal.")
    one.wait_for_end()
    other.wait_for_end()

    assert one.answer()
    assert other.answer()
    expect(one.questions.locator(".text")).to_have_text(["Name a colour."])
    assert app.metrics()["chatkit_loaded_models"] == 1


@pytest.mark.model
def test_metrics_tell_of_first_tokens_and_counts(app: App, visit: Visit) -> None:
    visit(app).ask("Name a colour.")

    metrics = app.metrics()

    assert metrics['chatkit_first_token_seconds_count{model="smollm2-135m"}'] >= 1
    assert metrics['chatkit_tokens_total{kind="prompt",model="smollm2-135m"}'] > 0
    assert metrics['chatkit_tokens_total{kind="completion",model="smollm2-135m"}'] > 0


def greedy_answer(engine: LlamaCppEngine, question: str, max_tokens: int) -> str:
    prompt = build_prompt(engine.template, [user(question)])
    answer, _ = wait_for(complete(engine, prompt, Sampling(temperature=0, max_tokens=max_tokens)))
    return answer


def assert_harmless(visitor: Visitor) -> None:
    """All that was said is there, and none of it does or fetches anything."""
    page = visitor.page
    expect(visitor.questions.locator(".text")).to_have_text(list(PAYLOADS))
    made = page.locator(".list :is(img, script, svg:not(button svg), iframe, video, style)")
    assert made.count() == 0
    assert page.locator(".list a[href^='javascript:' i]").count() == 0
    assert page.evaluate("window.ran") is None


@pytest.mark.slow
def test_the_settings_tell_what_is_known_of_the_model_and_how_fast_it_was(
    echo_app: App, visit: Visit
) -> None:
    visitor = visit(echo_app)
    visitor.ask("slowly " + "word " * 10)
    visitor.reload()
    visitor.page.get_by_label("Open settings").click()
    facts = visitor.page.get_by_text("is not in the catalogue")
    expect(facts).to_contain_text(re.compile(r"Speed here lately: [\d,]+ tokens/s"))
