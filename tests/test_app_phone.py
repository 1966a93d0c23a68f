"""The app on a phone: installed, swiped, and written in above the keyboard."""

from collections.abc import Iterator

import pytest
from browser import App, Visitor
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, expect

pytest_plugins = "visiting"
pytestmark = pytest.mark.browser

WIDTH, HEIGHT, KEYBOARD = 360, 740, 300
# A browser whose keyboard covers a part of the window says so here only.
COVERED = """
const seen = new EventTarget()
Object.assign(seen, {covered: 0, offsetTop: 0, scale: 1})
Object.defineProperty(seen, "height", {get: () => innerHeight - seen.covered})
Object.defineProperty(window, "visualViewport", {value: seen})
window.cover = height => {
  seen.covered = height
  seen.dispatchEvent(new Event("resize"))
}
"""


@pytest.fixture
def phone(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, is_mobile=True, has_touch=True
    )
    yield context
    context.close()


def touched(page: Page) -> CDPSession:
    return page.context.new_cdp_session(page)


def swipe(session: CDPSession, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Draw a finger over the window."""

    def touch(kind: str, *points: tuple[int, int]) -> None:
        places = [{"x": x, "y": y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", start)
    for step in (0.3, 0.6, 1.0):
        x, y = (int(a + step * (b - a)) for a, b in zip(start, end, strict=True))
        touch("touchMove", (x, y))
    touch("touchEnd")


@pytest.mark.slow
def test_a_swipe_opens_and_closes_the_conversations(echo_app: App, phone: BrowserContext) -> None:
    visitor = Visitor(phone.new_page(), echo_app)
    visitor.ask("hi")
    search = visitor.page.get_by_label("Search conversations")
    expect(search).not_to_be_in_viewport()
    session = touched(visitor.page)
    for start, end in (((200, 300), (340, 300)), ((30, 200), (130, 500)), ((30, 300), (60, 300))):
        swipe(session, start, end)
    visitor.page.wait_for_timeout(500)
    expect(search).not_to_be_in_viewport()
    swipe(session, (30, 300), (220, 320))
    expect(search).to_be_in_viewport()
    expect(visitor.page.get_by_label("Close conversations")).to_have_count(1)
    swipe(session, (250, 400), (60, 400))
    expect(search).not_to_be_in_viewport()


@pytest.mark.slow
def test_wide_code_slides_and_opens_nothing(echo_app: App, phone: BrowserContext) -> None:
    visitor = Visitor(phone.new_page(), echo_app)
    visitor.ask("code\n\n```\n" + "x" * 300 + "\n```")
    code = visitor.answers.last.locator("pre code").bounding_box()
    assert code
    y = int(code["y"] + 10)
    swipe(touched(visitor.page), (60, y), (220, y))
    visitor.page.wait_for_timeout(500)
    expect(visitor.page.get_by_label("Search conversations")).not_to_be_in_viewport()


def test_the_message_field_stays_above_the_keyboard(echo_app: App, phone: BrowserContext) -> None:
    page = phone.new_page()
    page.add_init_script(COVERED)
    visitor = Visitor(page, echo_app)
    visitor.ask("\n".join(f"line {number}" for number in range(30)))
    before = visitor.field.bounding_box()
    page.evaluate(f"cover({KEYBOARD})")
    after = visitor.field.bounding_box()
    assert before and after
    assert before["y"] - after["y"] == pytest.approx(KEYBOARD, abs=2)
    assert after["y"] + after["height"] < HEIGHT - KEYBOARD
    expect(page.get_by_role("button", name="Go to the newest message")).to_be_hidden()
    page.evaluate("cover(0)")
    assert visitor.field.bounding_box() == before


def test_a_phone_can_install_the_page(echo_app: App, phone: BrowserContext) -> None:
    visitor = Visitor(phone.new_page(), echo_app)
    session = touched(visitor.page)
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert manifest["url"].endswith("/manifest.json")
    found = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    # A browser in a test's own profile never installs.
    assert [one["errorId"] for one in found if one["errorId"] != "in-incognito"] == []


def test_two_quick_taps_do_not_zoom_and_two_fingers_may(
    echo_app: App, phone: BrowserContext
) -> None:
    visitor = Visitor(phone.new_page(), echo_app)
    expect(visitor.page.locator(".chat")).to_have_css("touch-action", "manipulation")
    viewport = visitor.page.locator("meta[name=viewport]").get_attribute("content") or ""
    assert "viewport-fit=cover" in viewport and "user-scalable" not in viewport
