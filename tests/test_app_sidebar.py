"""The sidebar in a browser: list, menu, rename, delete, search, history, files, preferences."""

import re
from pathlib import Path

import pytest
from browser import App, Visit, Visitor
from playwright.sync_api import Browser, expect

pytest_plugins = "visiting"
pytestmark = pytest.mark.browser


def talked(visitor: Visitor, *texts: str) -> Visitor:
    """Begin a conversation with each text."""
    for text in texts:
        visitor.press("New chat")
        expect(visitor.questions).to_have_count(0)
        visitor.ask(text)
        visitor.page.get_by_role("link").first.wait_for()
    return visitor


def menu(visitor: Visitor, item: str) -> None:
    """Choose from the menu of the newest conversation."""
    visitor.page.locator(".entry .more").first.click()
    visitor.page.get_by_role("menuitem", name=item, exact=True).click()


def test_conversations_are_opened_and_the_browser_goes_back_and_forward(
    echo_app: App, visit: Visit
) -> None:
    visitor = talked(visit(echo_app), "first talk", "second talk")
    links = visitor.page.locator(".entry .title")
    expect(links).to_have_count(2)
    expect(links.first).to_have_attribute("aria-current", "page")
    second = visitor.page.url
    links.last.click()
    expect(visitor.questions.first.locator(".text")).to_have_text("first talk")
    first = visitor.page.url
    assert first != second
    visitor.page.go_back()
    expect(visitor.questions.first.locator(".text")).to_have_text("second talk")
    assert visitor.page.url == second
    visitor.page.go_forward()
    expect(visitor.questions.first.locator(".text")).to_have_text("first talk")


def test_a_conversation_is_renamed_pinned_and_deleted_with_undo_by_keys(
    echo_app: App, visit: Visit
) -> None:
    visitor = talked(visit(echo_app), "a talk")
    page = visitor.page
    opener = page.locator(".entry .more")
    opener.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.type("Tides <b>")
    page.keyboard.press("Enter")
    expect(page.locator(".entry .title")).to_have_text("Tides <b>")
    menu(visitor, "Pin")
    expect(page.get_by_role("heading", name="Pinned")).to_be_visible()
    menu(visitor, "Delete")
    expect(page.locator(".entry")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".entry .title")).to_have_text("Tides <b>")
    opener.click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("menu")).to_have_count(0)
    assert page.evaluate("document.querySelector(':focus') !== null")


def test_a_search_shows_where_the_words_stand_as_one_types(echo_app: App, visit: Visit) -> None:
    visitor = talked(visit(echo_app), "volcanoes are hot", "bread rises")
    search = visitor.page.get_by_label("Search conversations")
    search.fill("volcanoes")
    expect(visitor.page.locator(".hit .snippet").first).to_contain_text("volcanoes")
    visitor.page.locator(".hit .title").first.click()
    expect(visitor.questions.first.locator(".text")).to_have_text("volcanoes are hot")
    search.fill("")
    expect(visitor.page.locator(".entry:not(.hit)")).to_have_count(2)


def test_conversations_go_out_and_come_in_as_files(
    echo_app: App, visit: Visit, tmp_path: Path
) -> None:
    visitor = talked(visit(echo_app), "carry me")
    with visitor.page.expect_download() as saving:
        menu(visitor, "Save as Markdown")
    assert saving.value.suggested_filename.endswith(".md")
    assert "carry me" in Path(saving.value.path()).read_text()
    with visitor.page.expect_download() as exporting:
        visitor.page.get_by_role("button", name="Export all").click()
    whole = tmp_path / "all.json"
    exporting.value.save_as(whole)
    visitor.page.get_by_label("File to import").set_input_files(whole)
    expect(visitor.page.locator(".entry")).to_have_count(2)


def test_a_file_that_is_no_export_is_one_sentence(
    echo_app: App, visit: Visit, tmp_path: Path
) -> None:
    visitor = visit(echo_app)
    (tmp_path / "x.json").write_text("nothing")
    visitor.page.get_by_label("File to import").set_input_files(tmp_path / "x.json")
    expect(visitor.trouble.first).to_contain_text("x.json")


def test_a_temporary_chat_says_so_and_is_in_no_list(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.press("Temporary chat")
    expect(visitor.page.get_by_text("in no list and no file")).to_be_visible()
    visitor.ask("a secret")
    expect(visitor.page.locator(".entry")).to_have_count(0)
    visitor.reload()
    expect(visitor.questions.first.locator(".text")).to_have_text("a secret")


def test_preferences_change_the_page_at_once_and_stay(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    page = visitor.page
    page.get_by_role("button", name="Preferences").click()
    page.get_by_label("Dark", exact=True).check()
    expect(page.locator(".chat")).to_have_css("background-color", "rgb(22, 24, 29)")
    page.get_by_label("Text size").fill("20")
    page.get_by_label("Enter sends").uncheck()
    page.get_by_label("High contrast").check()
    page.get_by_role("button", name="Close", exact=True).click()
    visitor.reload()
    expect(page.locator(".chat.contrast")).to_have_count(1)
    expect(page.locator("html")).to_have_css("font-size", "20px")
    visitor.field.fill("one")
    visitor.field.press("Enter")
    expect(visitor.questions).to_have_count(0)
    visitor.field.press("Control+Enter")
    expect(visitor.questions).to_have_count(1)


def test_the_switch_of_the_page_is_a_preference_too(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.page.get_by_label("Toggle theme").click()
    expect(visitor.page.locator(".chat")).to_have_css("background-color", "rgb(22, 24, 29)")
    visitor.page.get_by_role("button", name="Preferences").click()
    expect(visitor.page.get_by_label("Dark", exact=True)).to_be_checked()


def test_on_a_phone_the_sidebar_is_closed_at_first_and_nothing_scrolls_sideways(
    echo_app: App, browser: Browser
) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True
    )
    visitor = Visitor(context.new_page(), echo_app)
    assert not visitor.page.get_by_label("Search conversations").is_visible()
    visitor.ask("word " * 60 + "\n\n```python\n" + "x" * 300 + "\n```")
    sideways = "document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth"
    assert not visitor.page.evaluate(sideways)
    visitor.page.get_by_label("Open conversations").tap()
    visitor.page.get_by_label("Search conversations").wait_for()
    assert not visitor.page.evaluate(sideways)
    context.close()


@pytest.mark.slow
def test_each_conversation_keeps_its_own_draft(echo_app: App, visit: Visit) -> None:
    visitor = talked(visit(echo_app), "first talk", "second talk")
    visitor.field.fill("for the second")
    visitor.page.locator(".entry .title").last.click()
    expect(visitor.questions.first.locator(".text")).to_have_text("first talk")
    expect(visitor.field).to_have_value("")
    visitor.field.fill("for the first")
    visitor.press("New chat")
    expect(visitor.field).to_have_value("")
    visitor.field.fill("for a new one")
    visitor.page.locator(".entry .title").first.click()
    expect(visitor.field).to_have_value("for the second")
    visitor.page.locator(".entry .title").last.click()
    expect(visitor.field).to_have_value("for the first")
    visitor.reload()
    expect(visitor.field).to_have_value("for the first")
    visitor.press("New chat")
    expect(visitor.field).to_have_value("for a new one")


def test_what_is_written_while_a_conversation_begins_goes_along(
    echo_app: App, visit: Visit
) -> None:
    visitor = visit(echo_app)
    visitor.ask("begin")
    visitor.field.fill("and then")
    visitor.reload()
    expect(visitor.field).to_have_value("and then")


def test_dates_are_written_in_the_language_that_is_preferred(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("when?")
    said = visitor.answers.last.get_by_role("time")
    visitor.press("Preferences")
    visitor.page.get_by_label("Language of dates").select_option(label="Deutsch")
    german = r"Montag|Dienstag|Mittwoch|Donnerstag|Freitag|Samstag|Sonntag"
    expect(said).to_have_attribute("title", re.compile(german))
    visitor.press("Close")
    visitor.reload()
    expect(said).to_have_attribute("title", re.compile(german))


def test_a_link_before_everything_leads_to_the_message(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    link = visitor.page.get_by_role("link", name="Skip to the message")
    expect(link).not_to_be_in_viewport()
    expect(visitor.page.locator("body > :first-child")).to_have_text("Skip to the message")
    link.focus()
    expect(link).to_be_in_viewport()
    visitor.page.keyboard.press("Enter")
    expect(visitor.field).to_be_focused()


@pytest.mark.slow
def test_a_menu_is_seen_whole_in_a_low_window(echo_app: App, visit: Visit) -> None:
    page = talked(visit(echo_app), "tides", "bread").page
    page.set_viewport_size({"width": 1000, "height": 520})
    for place in (0, 1):
        page.locator(".entry").nth(place).locator(".more").click()
        for item in page.get_by_role("menuitem").all():
            # What is cut off is not what a press in its place would meet.
            assert item.evaluate(
                """item => {
                    const at = item.getBoundingClientRect()
                    const [x, y] = [at.x + at.width / 2, at.y + at.height / 2]
                    return item.getRootNode().elementFromPoint(x, y) === item
                }"""
            )
        page.keyboard.press("Escape")


@pytest.mark.slow
def test_conversations_are_put_into_folders(echo_app: App, visit: Visit) -> None:
    visitor = talked(visit(echo_app), "tides", "bread", "moons")
    page = visitor.page

    def file(place: int, folder: str) -> None:
        page.locator(".entry").nth(place).locator(".more").click()
        page.get_by_role("menuitem", name="Put into a folder").click()
        page.get_by_label("Folder; empty for none").last.fill(folder)
        page.keyboard.press("Enter")

    folder = page.get_by_role("list", name="Sky <b>")
    file(0, "Sky <b>")
    expect(folder.locator(".entry")).to_have_count(1)
    file(2, "Sky <b>")
    expect(folder.locator(".entry")).to_have_count(2)
    expect(page.get_by_role("list", name="Today").locator(".entry")).to_have_count(1)
    page.locator(".folder summary").click()
    expect(folder).to_be_hidden()
    page.locator(".folder summary").click()
    page.get_by_label("Menu of the folder Sky <b>").first.click()
    page.get_by_role("menuitem", name="Rename", exact=True).click()
    page.get_by_label("Folder; empty for none").last.fill("Heaven")
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Heaven").locator(".entry")).to_have_count(2)
    visitor.reload()
    expect(page.get_by_role("list", name="Heaven").locator(".entry")).to_have_count(2)
    file(0, "")
    expect(page.get_by_role("list", name="Heaven").locator(".entry")).to_have_count(1)
    page.get_by_label("Menu of the folder Heaven").first.click()
    page.get_by_role("menuitem", name="Dissolve").click()
    expect(page.get_by_role("list", name="Today").locator(".entry")).to_have_count(3)
    expect(page.locator(".folder")).to_have_count(0)
