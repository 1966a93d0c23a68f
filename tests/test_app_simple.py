"""The chat for a notebook's cell, served to a browser."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium, free_port
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

CELL = "from chatkit.ui.simple import simple_chat\nsimple_chat('scripted:').servable()\n"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    (tmp_path / "cell.py").write_text(CELL)
    port = free_port()
    command = [sys.executable, "-m", "panel", "serve", str(tmp_path / "cell.py")]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "CHATKIT_HOME": str(tmp_path / "home")},
        )
    try:
        with chromium() as browser:
            page = browser.new_page()
            for _ in range(100):
                try:
                    page.goto(f"http://127.0.0.1:{port}/cell")
                    break
                except Exception:
                    page.wait_for_timeout(300)
            yield page
    finally:
        server.terminate()
        server.wait(30)


def test_it_answers_and_what_is_said_is_text(page: Page, tmp_path: Path) -> None:
    field = page.locator("textarea").first
    field.wait_for(timeout=60_000)
    field.fill("**bold** <img src=x onerror='window.ran = true'>")
    field.press("Enter")
    expect(page.get_by_text("You said:")).to_be_visible()
    expect(page.locator("strong", has_text="bold").last).to_be_visible()
    assert page.evaluate("window.ran ?? null") is None
    secret = tmp_path / "secret.svg"
    secret.write_text("<svg xmlns='http://www.w3.org/2000/svg'><text>hidden</text></svg>")
    field.fill(str(secret))
    field.press("Enter")
    expect(page.get_by_text(f"You said: {secret}")).to_be_visible()
    expect(page.get_by_text("hidden")).to_have_count(0)
