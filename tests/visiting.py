"""Fixtures for the tests of the app: servers that many tests share, and visitors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import SLOW_APP, App, Visit, Visitor, chromium, running_app
from playwright.sync_api import Browser, BrowserContext, ViewportSize

SIZE: ViewportSize = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the session: while it runs, no other test can have an event loop of its own.
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def somebody(browser: Browser) -> BrowserContext:
    """One person's browser, which has loaded most files already."""
    return browser.new_context(viewport=SIZE)


@pytest.fixture(scope="session")
def echo_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with an engine that answers with the question, slowly where that says so."""
    folder = tmp_path_factory.mktemp("echo")
    with running_app(
        folder / "log", folder / "home", "scripted:,scripted:other", script=SLOW_APP
    ) as app:
        yield app


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory, default_model_home: Path) -> Iterator[App]:
    """The app with the default model, and with a store of its own."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "home").mkdir()
    (folder / "home" / "models").symlink_to(default_model_home / "models")
    with running_app(folder / "log", folder / "home") as app:
        yield app


@pytest.fixture
def visit(browser: Browser, somebody: BrowserContext) -> Iterator[Visit]:
    """Opens the app; in no test does the page ask anyone else for anything."""
    visitors: list[Visitor] = []

    def visit(app: App, *, path: str = "", stranger: bool = False) -> Visitor:
        context = browser.new_context(viewport=SIZE) if stranger else somebody
        visitors.append(Visitor(context.new_page(), app, app.url + path))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.leave()
        assert visitor.strangers() == []
