"""The report and the comparison as a person opens them: in a browser, on a phone, from a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import PAYLOADS, chromium
from playwright.sync_api import Browser, Page, expect
from test_evaluation import right, run, suite

import chatkit
from chatkit.evaluation.comparing import compare_runs
from chatkit.evaluation.gate import Policy, judge_gate
from chatkit.evaluation.report import report_of, write_html

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def opened(browser: Browser, path: Path, width: int) -> tuple[Page, list[str]]:
    """Open a file, and note whatever it asks for besides itself."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    return page, [url for url in asked if url != path.as_uri()]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    questions = suite(tmp_path, columns={"slices": ["half"]})

    def hostile(question: str) -> str:
        number = int(right(question))
        return PAYLOADS[number] if number < len(PAYLOADS) else str(number)

    old, new = run(questions, tmp_path / "old"), run(questions, tmp_path / "new", hostile)
    compared = compare_runs(old, new)
    path = tmp_path / "report.html"
    made = report_of([old, new], comparison=compared, verdict=judge_gate(compared, Policy()))
    write_html(made, path)
    return path


@pytest.mark.parametrize("width", [360, 1200])
def test_the_report_opens_on_a_phone_and_on_a_screen(
    browser: Browser, report: Path, width: int
) -> None:
    page, asked = opened(browser, report, width)
    expect(page.locator("h1")).to_contain_text("Fail.")
    assert asked == []
    # Nothing is wider than the page, so that nobody has to scroll sideways to read.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator(".bars svg").first).to_be_visible()
    assert page.evaluate("window.ran") is None
    page.close()


def test_what_a_model_said_in_it_is_text(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 1200)
    expect(page.locator("article").first).to_contain_text(PAYLOADS[0])
    assert page.locator("article script, article img, article iframe").count() == 0
    page.close()


def test_a_comparison_opens_as_a_page_of_its_own(browser: Browser, tmp_path: Path) -> None:
    found = chatkit.compare(["scripted:", "scripted:other"], list(PAYLOADS))
    found.to_html(tmp_path / "page.html")
    page, asked = opened(browser, tmp_path / "page.html", 1000)
    assert asked == [] and page.evaluate("window.ran") is None
    expect(page.locator(".chatkit-compare th")).to_have_text(["scripted:", "scripted:other"])
    assert page.locator(".chatkit-compare tbody tr").count() == 2 * len(PAYLOADS)
    page.close()
