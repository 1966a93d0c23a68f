"""What visitors, browsers and engines do wrong: one sentence at most, and nothing is lost."""

from datetime import datetime
from pathlib import Path

import pytest
from browser import App, Visit, Visitor, running_app
from playwright.sync_api import Browser, expect

pytest_plugins = "visiting"
pytestmark = pytest.mark.browser

NO_STORAGE = """
for (const name of ["localStorage", "sessionStorage"]) {
    Object.defineProperty(window, name, {get() { throw new DOMException("no", "SecurityError") }})
}
"""


# Types what no keyboard could: UTF-16 in hexadecimal digits.
TYPE = """hex => {
    const roots = root => [root, ...[...root.querySelectorAll("*")]
        .flatMap(one => one.shadowRoot ? roots(one.shadowRoot) : [])]
    const fields = roots(document).map(one => one.querySelector("textarea.field"))
    const units = hex.match(/.{4}/g).map(one => parseInt(one.slice(2) + one.slice(0, 2), 16))
    const field = fields.find(Boolean)
    field.value = String.fromCharCode(...units)
    field.dispatchEvent(new Event("input"))
}"""


def units(text: str) -> str:
    """Write a text as `TYPE` takes it."""
    return text.encode("utf-16-le", "surrogatepass").hex()


@pytest.mark.slow
def test_without_storage_the_page_works_as_long_as_it_is_open(
    echo_app: App, browser: Browser
) -> None:
    context = browser.new_context()
    context.add_init_script(NO_STORAGE)
    visitor = Visitor(context.new_page(), echo_app)
    assert "first" in visitor.ask("first")
    assert "second" in visitor.ask("second")
    visitor.field.fill("a draft")
    visitor.page.locator(".entry .title").first.click()
    expect(visitor.field).to_have_value("a draft")
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize("year", [2001, 2099])
def test_a_clock_that_is_wrong_by_years_loses_nothing(
    echo_app: App, browser: Browser, year: int
) -> None:
    context = browser.new_context()
    context.clock.set_fixed_time(datetime(year, 1, 1))
    visitor = Visitor(context.new_page(), echo_app)
    assert "what year is it" in visitor.ask("what year is it")
    visitor.reload()
    expect(visitor.questions.first.locator(".text")).to_have_text("what year is it")
    context.close()


@pytest.mark.slow
def test_half_a_character_is_refused_in_a_sentence_and_can_be_discarded(
    echo_app: App, visit: Visit
) -> None:
    visitor = visit(echo_app)
    visitor.page.evaluate(
        TYPE, "half \ud800 a character".encode("utf-16-le", "surrogatepass").hex()
    )
    visitor.field.press("Enter")
    expect(visitor.problem.first).to_contain_text("not valid Unicode at character 5")
    visitor.press("Discard")
    assert "and on" in visitor.ask("and on")
    expect(visitor.questions).to_have_count(1)


@pytest.mark.slow
def test_letters_that_turn_others_round_turn_nothing_outside_of_themselves(
    echo_app: App, visit: Visit
) -> None:
    visitor = visit(echo_app)
    visitor.ask("\u202egnp.exe \u2066 \u202e")
    foot = visitor.questions.last.locator(".foot")
    text = visitor.questions.last.locator(".text")
    assert text.evaluate("one => getComputedStyle(one).unicodeBidi") in ("isolate", "plaintext")
    assert foot.evaluate("one => getComputedStyle(one).direction") == "ltr"
    title = visitor.page.locator(".entry .title").first
    assert title.evaluate("one => getComputedStyle(one).unicodeBidi") in ("isolate", "plaintext")


@pytest.mark.slow
def test_ten_thousand_fences_are_shown_and_the_talk_goes_on(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.page.evaluate(TYPE, units("```\n" * 10_000))
    visitor.field.press("Enter")
    visitor.answers.first.wait_for()
    visitor.wait_for_end()
    assert "after it" in visitor.ask("after it")


def test_a_file_with_a_hostile_name_is_named_as_text(
    echo_app: App, visit: Visit, tmp_path: Path
) -> None:
    visitor = visit(echo_app)
    visitor.page.get_by_label("Files to attach").set_input_files(
        {
            "name": "<img src=x onerror='window.ran=1'>\u202etxt.exe",
            "mimeType": "text/plain",
            "buffer": b"what is in it",
        }
    )
    expect(visitor.page.locator(".files .file")).to_contain_text("<img src=x onerror=")
    visitor.ask("look")
    expect(visitor.questions.last).to_contain_text("what is in it")
    expect(visitor.questions.last).not_to_contain_text("\u202e")
    assert visitor.page.evaluate("window.ran ?? null") is None


@pytest.mark.slow
def test_two_tabs_that_edit_one_question_make_two_branches(echo_app: App, visit: Visit) -> None:
    one = visit(echo_app)
    one.ask("the question")
    page = one.page.context.new_page()
    other = Visitor(page, echo_app, one.page.url)
    for visitor, text in ((one, "by the first"), (other, "by the second")):
        visitor.questions.first.hover()
        visitor.questions.first.get_by_role("button", name="Edit").click()
        visitor.page.get_by_label("Edited message").fill(text)
    for visitor in (one, other):
        visitor.page.get_by_role("button", name="Ask").click()
    for visitor in (one, other):
        expect(visitor.page.get_by_label("Edited message")).to_have_count(0)
    for visitor in (one, other):
        expect(visitor.questions.first.locator(".place")).to_contain_text("/3")
    page.close()


def test_an_engine_that_is_down_is_said_and_the_question_is_kept(
    tmp_path: Path, visit: Visit
) -> None:
    with running_app(
        tmp_path / "log", tmp_path / "home", "openai:http://127.0.0.1:9/none,scripted:"
    ) as app:
        visitor = visit(app)
        visitor.send("are you there?")
        expect(visitor.problem.first).to_contain_text("127.0.0.1:9")
        visitor.reload()
        expect(visitor.questions.first.locator(".text")).to_have_text("are you there?")
        expect(visitor.page.get_by_role("button", name="Try again")).to_be_visible()
