"""Where one writes: files, commands, prompts, keys; and what one says of an answer."""

from pathlib import Path

import pytest
from browser import App, Visit, Visitor
from playwright.sync_api import expect

pytest_plugins = "visiting"
pytestmark = pytest.mark.browser


def attach(visitor: Visitor, *files: Path) -> None:
    visitor.page.get_by_label("Files to attach").set_input_files(list(files))


def test_a_text_file_goes_with_the_message_and_tells_its_tokens(
    echo_app: App, visit: Visit, tmp_path: Path
) -> None:
    visitor = visit(echo_app)
    (tmp_path / "notes.py").write_text("a = '```'\n")
    attach(visitor, tmp_path / "notes.py")
    expect(visitor.page.locator(".file")).to_contain_text("notes.py · 10 tokens")
    visitor.ask("what is this?")
    expect(visitor.questions.last.locator(".text")).to_have_text(
        "File notes.py:\n\n````\na = '```'\n````\n\nwhat is this?"
    )
    expect(visitor.page.locator(".file")).to_have_count(0)


def test_a_file_that_is_too_large_or_no_text_is_refused_and_the_draft_stays(
    echo_app: App, visit: Visit, tmp_path: Path
) -> None:
    visitor = visit(echo_app)
    visitor.field.fill("a draft")
    (tmp_path / "large.txt").write_text("x" * 300_000)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    for name, why in (("large.txt", "300 kB"), ("picture.png", "is no text")):
        attach(visitor, tmp_path / name)
        expect(visitor.page.locator(".complaint")).to_contain_text(why)
    expect(visitor.page.locator(".file")).to_have_count(0)
    expect(visitor.field).to_have_value("a draft")


def test_an_enormous_paste_is_refused_with_its_size(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.field.fill("a draft")
    visitor.field.evaluate(
        """field => {
            const data = new DataTransfer()
            data.setData("text", "x".repeat(10_000_000))
            field.dispatchEvent(new ClipboardEvent("paste", {
                clipboardData: data, bubbles: true, cancelable: true}))
        }"""
    )
    expect(visitor.page.locator(".complaint")).to_contain_text("10,000,000 characters")
    expect(visitor.field).to_have_value("a draft")


def test_enter_sends_nothing_while_an_input_method_composes(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.field.fill("にほん")
    visitor.field.evaluate(
        """field => field.dispatchEvent(new KeyboardEvent("keydown", {
            key: "Enter", isComposing: true, bubbles: true, cancelable: true}))"""
    )
    expect(visitor.questions).to_have_count(0)
    expect(visitor.field).to_have_value("にほん")


def test_commands_are_chosen_by_keys(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("one")
    visitor.field.press_sequentially("/re")
    expect(visitor.page.get_by_role("option")).to_have_text(
        ["/retryAnswer the last question again"]
    )
    visitor.field.press("Enter")
    visitor.page.locator(".branches .place", has_text="2/2").wait_for()
    visitor.field.press_sequentially("/")
    visitor.field.press("ArrowDown")
    visitor.field.press("Tab")
    expect(visitor.page.get_by_text("in no list and no file")).to_be_visible()
    visitor.field.press_sequentially("/he")
    visitor.field.press("Enter")
    expect(visitor.page.get_by_role("dialog", name="Keys")).to_be_visible()


def test_a_prompt_of_ones_own_is_filled_in(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.field.press_sequentially("/prompts")
    visitor.field.press("Enter")
    sheet = visitor.page.get_by_role("dialog", name="Prompts")
    sheet.get_by_label("Name").fill("sum up")
    sheet.get_by_label("Text").fill("Sum up {{text}} in {{count}} words.")
    sheet.get_by_role("button", name="Save").click()
    expect(sheet.get_by_role("button", name="/sum-up")).to_be_visible()
    sheet.get_by_role("button", name="Close").click()
    visitor.field.press_sequentially("/sum")
    visitor.field.press("Enter")
    visitor.page.keyboard.type("this")
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.type("5")
    expect(visitor.field).to_have_value("Sum up this in 5 words.")


@pytest.mark.slow
def test_why_an_answer_is_bad_is_kept(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("one")
    visitor.press("Bad answer")
    form = visitor.page.get_by_role("form", name="Why")
    form.get_by_label("wrong").check()
    form.get_by_label("Comment").fill("it is two")
    form.get_by_role("button", name="Send").click()
    expect(form).to_have_count(0)
    visitor.reload()
    visitor.answers.first.wait_for()
    bad = visitor.page.get_by_role("button", name="Bad answer")
    expect(bad).to_have_attribute("aria-pressed", "true")
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "false")
    bad.click()
    expect(visitor.page.get_by_label("Comment")).to_be_visible()


def test_one_goes_on_from_an_answer_in_another_conversation(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("one")
    visitor.ask("two")
    before = visitor.page.url
    visitor.answers.first.get_by_role("button", name="Go on in another conversation").click()
    expect(visitor.answers).to_have_count(1)
    assert visitor.page.url != before
    expect(visitor.page.locator(".entry")).to_have_count(2)


def test_the_meter_tells_how_full_the_window_is(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    expect(visitor.page.locator(".meter")).to_be_hidden()
    visitor.ask("one")
    expect(visitor.page.locator(".used")).to_contain_text("of 4,096 tokens of the window are used")


def test_the_last_question_is_edited_with_the_arrow(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("one")
    visitor.field.press("ArrowUp")
    expect(visitor.page.get_by_label("Edited message")).to_have_value("one")
