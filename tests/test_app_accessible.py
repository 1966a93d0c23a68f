"""Every screen in every theme, as axe-core judges it; and the page by keys alone."""

from pathlib import Path

import axe_playwright_python
import pytest
from browser import App, Visit, Visitor, keep_picture
from playwright.sync_api import Browser, Page, expect

pytest_plugins = "visiting"
pytestmark = pytest.mark.browser

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
OTHER_THEMES = ["Dark", "High contrast"]
RICH = """# A heading

Some *words* with `code` and a [link](https://example.com).

```python
def double(x):  # twice
    return 2 * x + len("text")
```

| a | b |
|---|---|
| 1 | 2 |

- [x] done

$x^2$"""


def violations(page: Page) -> list[str]:
    """Name what axe-core finds against WCAG 2.2 AA and its best practices."""
    # What is pointed at has a tooltip, which fades.
    page.mouse.move(700, 300)
    page.wait_for_timeout(400)
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        """async () => {
            const {violations} = await axe.run(document, {runOnly: [
                "wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
            return violations.flatMap(({id, nodes}) =>
                nodes.map(node => `${id}: ${node.target} ${node.failureSummary}`))
        }"""
    )
    return list(found)


def in_theme(visitor: Visitor, theme: str) -> None:
    visitor.page.get_by_role("button", name="Preferences").click()
    visitor.page.get_by_label(theme, exact=True).check()
    visitor.page.get_by_role("button", name="Close", exact=True).click()
    # Colours fade over.
    visitor.page.wait_for_timeout(700)


@pytest.mark.parametrize(
    "theme", ["Light", *(pytest.param(theme, marks=pytest.mark.slow) for theme in OTHER_THEMES)]
)
def test_no_screen_has_a_violation(echo_app: App, visit: Visit, theme: str) -> None:
    visitor = visit(echo_app)
    page = visitor.page

    def look(screen: str) -> None:
        assert violations(page) == [], screen
        keep_picture(page, f"{theme} {screen}")

    in_theme(visitor, theme)
    look("empty")
    visitor.ask(RICH)
    page.locator(".entry").first.wait_for()
    look("conversation")
    page.locator(".entry .more").first.click()
    look("menu")
    page.get_by_role("menuitem", name="Put into a folder").click()
    look("folder question")
    page.get_by_label("Folder; empty for none").last.fill("Sea")
    page.keyboard.press("Enter")
    page.get_by_role("list", name="Sea").wait_for()
    look("folder")
    visitor.questions.last.get_by_label("Delete from here on").click()
    look("deletion")
    visitor.press("Keep")
    page.get_by_role("button", name="Preferences").click()
    look("preferences")
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_role("button", name="Compare models").click()
    page.get_by_role("button", name="Back to the chat").wait_for()
    look("arena")
    page.get_by_role("button", name="Back to the chat").click()
    page.get_by_label("Open settings").click()
    page.get_by_label("System prompt").wait_for()
    page.wait_for_timeout(500)
    look("settings")


def test_everything_is_reached_by_tab(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask(RICH)
    reached = set()
    for _ in range(60):
        visitor.page.keyboard.press("Tab")
        reached.add(
            visitor.page.evaluate(
                """() => {
                    let one = document.activeElement
                    while (one?.shadowRoot?.activeElement) { one = one.shadowRoot.activeElement }
                    return one?.getAttribute("aria-label") || one?.textContent || ""
                }"""
            )
        )
    assert {
        "Message",
        "Copy",
        "Copy code",
        "Good answer",
        "Edit",
        "Search conversations",
    } <= reached


def test_forced_colours_and_double_size_keep_the_page_usable(
    echo_app: App, browser: Browser
) -> None:
    context = browser.new_context(
        viewport={"width": 640, "height": 400}, forced_colors="active", reduced_motion="reduce"
    )
    visitor = Visitor(context.new_page(), echo_app)
    visitor.ask("a question")
    sideways = "document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth"
    assert not visitor.page.evaluate(sideways)
    expect(visitor.page.get_by_role("button", name="Send")).to_be_in_viewport()
    context.close()
