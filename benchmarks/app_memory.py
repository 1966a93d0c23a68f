"""What the chat page's server holds after a visitor has been answered."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

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
            with running_app(home / "log", home) as app:
                Visitor(browser.new_page(), app).ask("What is a tide?")
                resident = psutil.Process(app.process.pid).memory_info().rss / 1e6
        yield f"{name}: {resident:.0f} MB resident (target {target})"
