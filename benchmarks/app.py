"""The app beside panel-material-ui's ChatInterface, in Chromium: streaming, long conversations."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

from benchmarks.served.dripping import IDEAL_SECONDS, QUESTION
from tests.browser import FLAGS, find_chromium, free_port

ROOT = Path(__file__).parents[1]
TOKEN = "cd" * 32
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Spent:
    """What an answer took.

    Args:
        wall: seconds from sending to the end on the page.
        server: the server's CPU seconds.
        browser: the main thread's busy seconds.
    """

    wall: float
    server: float
    browser: float


def run() -> Iterator[str]:
    """Print the app's figures, with the peer's beside them."""
    with tempfile.TemporaryDirectory() as place:
        names = asyncio.run(_fill(Path(place)))
        with (
            _served("ours", Path(place)) as (ours, our_server),
            _served("peer", Path(place)) as (peer, peer_server),
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            context.add_init_script(f"localStorage['chatkit.visitor'] = '{TOKEN}'")
            mine = [_our_answer(context.new_page(), ours, our_server) for _ in range(REPEATS)]
            theirs = [_peer_answer(context.new_page(), peer, peer_server) for _ in range(REPEATS)]
            yield _compared(mine, theirs)
            yield from _opened(context, ours, peer, names)
            browser.close()


def _compared(mine: list[Spent], theirs: list[Spent]) -> str:
    ours, other = (
        Spent(*(median(getattr(one, name) for one in each) for name in Spent.__dataclass_fields__))
        for each in (mine, theirs)
    )
    return (
        f"4,000 characters in 1,000 pieces: {ours.wall / IDEAL_SECONDS:.2f}x the ideal wall time "
        f"(target 1.15, ChatInterface {other.wall / IDEAL_SECONDS:.2f}x); server CPU "
        f"{ours.server:.1f} s against {other.server:.1f} s, 1/{other.server / ours.server:.1f} "
        f"(target 1/6); browser {ours.browser:.1f} s against {other.browser:.1f} s, "
        f"1/{other.browser / ours.browser:.1f} (target 1/3)"
    )


def _our_answer(page: Page, url: str, server: psutil.Process) -> Spent:
    page.goto(url)
    field = page.get_by_label("Message", exact=True)
    field.wait_for(timeout=60_000)
    page.wait_for_timeout(1_500)
    field.fill(QUESTION)

    def go() -> None:
        field.press("Enter")
        page.locator(".assistant:not(.pending)").wait_for(timeout=120_000)

    return _spent(page, server, go)


def _peer_answer(page: Page, url: str, server: psutil.Process) -> Spent:
    page.goto(url)
    field = page.locator("textarea").first
    field.wait_for(timeout=60_000)
    page.wait_for_timeout(1_500)
    field.fill(QUESTION)

    def go() -> None:
        page.get_by_role("button", name="Send message").click()
        page.get_by_text("END", exact=True).wait_for(timeout=180_000)

    return _spent(page, server, go)


def _spent(page: Page, server: psutil.Process, go: Any) -> Spent:
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def busy() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    times, before, began = server.cpu_times(), busy(), time.monotonic()
    go()
    wall, after = time.monotonic() - began, server.cpu_times()
    cpu = after.user + after.system - times.user - times.system
    found = Spent(wall, cpu, busy() - before)
    page.close()
    return found


def _opened(context: Any, ours: str, peer: str, names: dict[int, str]) -> Iterator[str]:
    seconds = {}
    for count, name in names.items():
        times = []
        for _ in range(REPEATS):
            page = context.new_page()
            page.goto(ours)
            entry = page.locator(f".entry[data-id='{name}'] .title")
            entry.wait_for(timeout=60_000)
            page.wait_for_timeout(1_000)
            began = time.monotonic()
            entry.click()
            page.get_by_text(f"message {count - 1} ", exact=False).last.wait_for(timeout=60_000)
            times.append(time.monotonic() - began)
            page.close()
        seconds[count] = median(times)
    page = context.new_page()
    page.goto(peer)
    button = page.get_by_role("button", name="Open 300")
    button.wait_for(timeout=60_000)
    page.wait_for_timeout(1_500)
    began = time.monotonic()
    button.click()
    page.get_by_text("and more words after it. 299").wait_for(timeout=180_000)
    theirs = time.monotonic() - began
    page.close()
    yield (
        f"a conversation of 300 messages is there {seconds[300]:.2f} s after the click (target 1), "
        f"{theirs / seconds[300]:.0f}x as fast as ChatInterface's {theirs:.1f} s (target 8); "
        f"one of 10,000 after {seconds[10_000]:.2f} s, {seconds[10_000] / seconds[300]:.2f}x "
        "(target 1.3)"
    )


async def _fill(home: Path) -> dict[int, str]:
    """Store conversations of 300 and of 10,000 messages, and give their names."""
    os.environ["CHATKIT_HOME"] = str(home)
    from chatkit.exchange.reading import read_conversations
    from chatkit.models import Models
    from chatkit.service import open_chat_service
    from chatkit.settings import settings
    from chatkit.ui.visitor import visitor_of

    service = await open_chat_service(settings(), Models(), titles=False)
    names = {}
    try:
        for count in (300, 10_000):
            said = "Some *words* with `code`:\n\n- one\n- two\n\nmessage {} and more words."
            turns = [
                {"from": "gpt" if n % 2 else "human", "value": said.format(n)} for n in range(count)
            ]
            file = home / "import.json"
            file.write_text(json.dumps([{"id": str(count), "conversations": turns}]))
            (name,) = await service.import_conversations(
                visitor_of(TOKEN), read_conversations(file)
            )
            names[count] = name
    finally:
        await service.close()
    return names


@contextmanager
def _served(name: str, home: Path) -> Iterator[tuple[str, psutil.Process]]:
    port = free_port()
    script = f"benchmarks/served/{name}.py"
    environment = {
        **os.environ,
        "CHATKIT_HOME": str(home),
        "CHATKIT_APP_MODELS": "scripted:",
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "panel", "serve", script, "--port", str(port)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/{name}"
    try:
        for _ in range(240):
            with suppress(OSError), urllib.request.urlopen(url):
                break
            time.sleep(0.5)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)
