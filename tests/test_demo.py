"""`make demo` in a clean clone: from nothing to a streaming answer in a browser."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from browser import App, Visitor, answers, chromium, free_port, wait_until

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.model]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to make a clean clone")
def test_make_demo_shows_a_streaming_answer(tmp_path: Path) -> None:
    clone, port = tmp_path / "clone", free_port()
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    environment = {**os.environ, "CHATKIT_HOME": str(tmp_path / "models")}
    with (tmp_path / "log").open("wb") as log:
        demo = subprocess.Popen(
            ["make", "demo", f"PORT={port}"],
            cwd=clone,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    app = App(port, tmp_path / "log", demo)
    try:
        wait_until(lambda: answers(app), "the demo answers", seconds=1200)
        with chromium() as browser:
            assert "Paris" in Visitor(browser.new_page(), app).ask("What is the capital of France?")
    finally:
        os.killpg(demo.pid, signal.SIGTERM)
        demo.wait()
