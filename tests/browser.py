"""A real server and a real browser, for the tests of the app."""

import os
import re
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
from typing import Protocol

from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "artefacts"
SLOW_APP = "tests/slow_app.py"
PATIENCE_SECONDS = 60
SIZE: ViewportSize = {"width": 1280, "height": 800}
expect.set_options(timeout=PATIENCE_SECONDS * 1000)
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
    name: str = "app"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.name}"

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
def running_app(
    log: Path,
    home: Path,
    models: str = "",
    *,
    script: str = "serve/app.py",
    port: int = 0,
    unused_seconds: int = 15,
) -> Iterator[App]:
    """Serve the app for as long as the block runs.

    Args:
        log: where its output goes.
        home: its `CHATKIT_HOME`.
        models: its `CHATKIT_APP_MODELS`.
        script: what is served.
        port: where; a free one when none is given.
        unused_seconds: how long a page that was sent may take until it connects.
    """
    sessions = ["--unused-session-lifetime", str(unused_seconds * 1000)]
    sessions += ["--check-unused-sessions", str(unused_seconds * 200)]
    command = ["panel", "serve", script, "--plugins", "chatkit.ui.metrics", *sessions]
    environment = {"CHATKIT_HOME": str(home), "CHATKIT_APP_MODELS": models}
    with _running(command, log, environment, port, Path(script).stem) as app:
        yield app


@contextmanager
def running_guarded_app(log: Path, auth: str, environment: dict[str, str]) -> Iterator[App]:
    """Serve the app with sign-in for as long as the block runs, on a free port."""
    with _running(["serve", "app", "--auth", auth, "--metrics"], log, environment, 0) as app:
        yield app


@contextmanager
def _running(
    command: list[str], log: Path, environment: dict[str, str], port: int, name: str = "app"
) -> Iterator[App]:
    port = port or free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        app = App(port, log, process, name)
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


@contextmanager
def own_chromium(folder: Path) -> Iterator[BrowserContext]:
    """Run a headless Chromium as one person's own.

    Args:
        folder: where it keeps what it has read and compiled, for this time and the next.
    """
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=find_chromium(), args=FLAGS, viewport=SIZE
        )
        yield context
        context.close()


def forget(context: BrowserContext, url: str) -> None:
    """Let a browser forget what pages of an app have stored; the scripts it still knows."""
    page = context.new_page()
    stored = {"origin": url, "storageTypes": "local_storage,indexeddb"}
    context.new_cdp_session(page).send("Storage.clearDataForOrigin", stored)
    context.clear_cookies()
    page.close()


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

    def __init__(self, page: Page, app: App, url: str = "") -> None:
        self.page = page
        self.app = app
        self.requests: list[str] = []
        self.tabs: list[Visitor] = []
        page.on("request", lambda request: self.requests.append(request.url))
        self.field = page.get_by_label("Message", exact=True)
        self.answers = page.get_by_role("article", name="Assistant")
        self.questions = page.get_by_role("article", name="You")
        self.problem = page.locator(".message .problem .sentence")
        # Until the style has come, the places for sentences are there as well, empty.
        self.trouble = page.get_by_role("alert").filter(has_text=re.compile(r"\S"))
        self.go(url or app.url)

    def go(self, url: str) -> None:
        """Open a page and wait until it can be used."""
        self.page.goto(url)
        self.field.wait_for(timeout=PATIENCE_SECONDS * 1000)

    def reload(self) -> None:
        """Load the page anew and wait until it can be used."""
        self.page.reload()
        self.field.wait_for(timeout=PATIENCE_SECONDS * 1000)

    def tab(self, url: str = "") -> "Visitor":
        """Open another tab of the same browser; by default the same page."""
        page = self.page.context.new_page()
        self.tabs.append(Visitor(page, self.app, url or self.page.url))
        return self.tabs[-1]

    def leave(self) -> None:
        """Close the page, and the tabs that were opened beside it."""
        for one in (self, *self.tabs):
            one.page.close()

    def press(self, label: str) -> None:
        """Press the button with this label that comes last."""
        self.page.get_by_role("button", name=label, exact=True).last.click()

    @property
    def conversation(self) -> str:
        """The name of the conversation in the page's address."""
        return self.page.url.partition("?conversation=")[2]

    def send(self, text: str) -> None:
        """Write and press Enter."""
        self.field.fill(text)
        self.field.press("Enter")

    def ask(self, text: str) -> str:
        """Send, wait for the whole answer and give what is shown of it."""
        before = self.answers.count()
        self.send(text)
        self.answers.nth(before).wait_for(timeout=PATIENCE_SECONDS * 1000)
        self.wait_for_end()
        return self.answer()

    def answer(self) -> str:
        """The newest answer as it is shown."""
        return self.answers.last.locator(".text").inner_text()

    def wait_for_end(self) -> None:
        """Wait until no answer is under way."""
        self.page.locator(".chat:not(.busy)").wait_for(timeout=PATIENCE_SECONDS * 1000)

    def wait_for_text(self, text: str) -> None:
        """Wait until the newest answer has a text in it."""
        expect(self.answers.last.locator(".text")).to_contain_text(text)

    def choose(self, label: str, value: str) -> None:
        """Fill a field of the drawer."""
        if not self.page.get_by_label(label).is_visible():
            self.page.get_by_label("Open settings").click()
        field = self.page.get_by_label(label)
        field.fill(value)
        field.press("Tab")
        self.page.keyboard.press("Escape")
        field.wait_for(state="hidden")

    def strangers(self) -> list[str]:
        """The requests that went anywhere but to the app."""
        own = ("http://127.0.0.1:", "data:", "blob:")
        asked = [url for one in (self, *self.tabs) for url in one.requests]
        return [url for url in asked if not url.startswith(own)]


class Visit(Protocol):
    """Opens a page of the app, for one person in a test, or for a stranger to that person."""

    def __call__(self, app: App, *, path: str = "", stranger: bool = False) -> Visitor: ...


def keep_picture(page: Page, name: str) -> None:
    """Keep what a person sees, for somebody to look at."""
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(path=PICTURES / f"{name.lower().replace(' ', '-')}.png")


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
