"""What the chat page's server holds after a visitor has been answered.

As on a user's machine: without chardet, which only the development parts bring, and with a
database that is there already.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import psutil

from chatkit.catalogue import find
from chatkit.loading.pull import pull
from chatkit.settings import settings

MODELS = {"smollm2-135m": 900, "smollm2-135m-q4": 500}


def run() -> Iterator[str]:
    """Print the resident memory of the app with each model."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from browser import Visitor, chromium, running_app

    for name, target in MODELS.items():
        pull(find(name))
        with TemporaryDirectory() as folder, chromium() as browser:
            # A home with this model alone, so that the page offers and loads no other.
            home = Path(folder)
            (home / "models").mkdir()
            (home / "models" / name).symlink_to(settings().models / name)
            _make_database(home)
            hidden = patch.dict(os.environ, PYTHONPATH=_without_chardet(home))
            with hidden, running_app(home / "log", home) as app:
                Visitor(browser.new_page(), app).ask("What is a tide?")
                resident = psutil.Process(app.process.pid).memory_info().rss / 1e6
        yield f"{name}: {resident:.0f} MB resident (target {target})"


def _make_database(home: Path) -> None:
    environment = {**os.environ, "CHATKIT_HOME": str(home)}
    command = [sys.executable, "-m", "chatkit", "db", "upgrade"]
    subprocess.run(command, env=environment, check=True, capture_output=True)


def _without_chardet(home: Path) -> str:
    # The evaluation's parts bring it, and `requests` then takes it, with its 13 MB of tables.
    hiding = home / "hiding"
    hiding.mkdir()
    (hiding / "chardet.py").write_text("raise ImportError\n")
    return str(hiding)
