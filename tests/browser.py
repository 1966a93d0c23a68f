"""A real server and a real browser, for the tests of the app."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, sync_playwright

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60
UNUSED_SECONDS = 1
SESSIONS = [
    f"--unused-session-lifetime={UNUSED_SECONDS * 1000}",
    "--check-unused-sessions=200",
]
PAYLOADS = (
    "<script>window.ran = true</script>",
    "<img src=x onerror='window.ran = true'>",
    "<svg onload='window.ran = true'></svg>",
    "[press](javascript:window.ran=true)",
    "![pixel](http://example.com/pixel.png)",
    "<http://example.com/film.mp4>",
    "http://example.com/pixel.png",
    "<iframe srcdoc='<script>parent.ran = true</script>'></iframe>",
    "`<b>` **<b onclick=x>bold</b>** <style>* { display: none }</style>",
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True, slots=True)
class App:
    """The app under `panel serve`, in a process of its own."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/app"

    def metrics(self) -> dict[str, float]:
        """What `/metrics` says now: values by name with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        rows = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}


def find_chromium() -> str | None:
    """Say where a Chromium is, None when only Playwright may know of one."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def running_app(log: Path, home: Path, models: str = "") -> Iterator[App]:
    """Serve the app on a free port for as long as the block runs."""
    port = free_port()
    command = [sys.executable, "-m", "panel", "serve", "serve/app.py", "--port", str(port)]
    command += ["--plugins", "chatkit.ui.metrics", *SESSIONS]
    environment = {**os.environ, "CHATKIT_HOME": str(home), "CHATKIT_APP_MODELS": models}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        app = App(port, log, process)
        wait_until(lambda: answers(app), f"the app answers; see {log}")
        yield app
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless Chromium for as long as the block runs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield browser
        browser.close()


def come_late(route: Route) -> None:
    """Send a file on when the session that it belongs to has ended."""
    time.sleep(3 * UNUSED_SECONDS)
    route.continue_()


def plain(text: str) -> str:
    """Leave out what Markdown changes in a plain answer: spaces and line breaks."""
    return " ".join(text.split())


def wait_until(true: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something to become true, or fail saying what it was."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.1)


class Visitor:
    """Someone who uses the app in a page of the browser."""

    def __init__(self, page: Page, app: App) -> None:
        self.page = page
        self.requests: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(app.url)
        self.field = page.get_by_label("Message", exact=True)
        self.field.wait_for(timeout=PATIENCE_SECONDS * 1000)
        self.answers = page.get_by_role("article", name="Assistant")
        self.questions = page.get_by_role("article", name="You")

    def send(self, text: str) -> None:
        """Write and press Enter."""
        self.field.fill(text)
        self.field.press("Enter")

    def ask(self, text: str) -> str:
        """Send, wait for the whole answer and give what is shown of it."""
        before = self.answers.count()
        self.send(text)
        self.answers.nth(before).wait_for()
        self.wait_for_end()
        return self.answer()

    def answer(self) -> str:
        """The newest answer as it is shown."""
        return self.answers.last.locator(".text").inner_text()

    def wait_for_end(self) -> None:
        """Wait until no answer is under way."""
        self.page.locator(".chat:not(.busy)").wait_for(timeout=PATIENCE_SECONDS * 1000)

    def choose(self, label: str, value: str) -> None:
        """Fill a field of the drawer."""
        if not self.page.get_by_label(label).is_visible():
            self.page.get_by_label("Open drawer").click()
        field = self.page.get_by_label(label)
        field.fill(value)
        field.press("Tab")

    def strangers(self) -> list[str]:
        """The requests that went anywhere but to the app."""
        own = ("http://127.0.0.1:", "data:", "blob:")
        return [url for url in self.requests if not url.startswith(own)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answers(app: App) -> bool:
    assert app.process.poll() is None, app.log.read_text()
    try:
        app.metrics()
    except (urllib.error.URLError, ConnectionError):
        return False
    return True
