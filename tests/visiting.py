"""Fixtures for the tests of the app: servers that many tests share, and visitors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import SIZE, SLOW_APP, App, Visit, Visitor, forget, own_chromium, running_app
from playwright.sync_api import Browser, BrowserContext


@pytest.fixture(scope="session")
def browser_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser keeps what it has read and compiled, from one file of tests to the next."""
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def own_browser(browser_folder: Path) -> Iterator[BrowserContext]:
    """One person's browser, which knows most scripts already."""
    # Not for the session: while it runs, no other test can have an event loop of its own.
    with own_chromium(browser_folder) as context:
        yield context


@pytest.fixture(scope="module")
def browser(own_browser: BrowserContext) -> Browser:
    """The browser itself, which opens places for strangers."""
    assert own_browser.browser is not None
    return own_browser.browser


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
def visit(browser: Browser, own_browser: BrowserContext) -> Iterator[Visit]:
    """Opens the app; in no test does the page ask anyone else for anything."""
    visitors: list[Visitor] = []

    def visit(app: App, *, path: str = "", stranger: bool = False) -> Visitor:
        if not visitors:
            forget(own_browser, app.url)
        context = browser.new_context(viewport=SIZE) if stranger and visitors else own_browser
        visitors.append(Visitor(context.new_page(), app, app.url + path))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.leave()
        assert visitor.strangers() == []
