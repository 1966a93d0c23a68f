"""Sign-in in a real browser: who comes in, who does not, and who is sent out again."""

import base64
import http.client
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import (
    SIZE,
    App,
    Visitor,
    forget,
    keep_picture,
    running_app,
    running_guarded_app,
    wait_until,
)
from joserfc.jwk import OctKey, RSAKey
from openid_service import CLIENT, SECRET, OpenIdService, running_openid_service
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tornado.web import create_signed_value

from chatkit.background import wait_for
from chatkit.cli.opening import opened_shelf

pytest_plugins = ["visiting"]
pytestmark = pytest.mark.browser

ANNA, BO = "correct horse battery", "staple tomorrow window"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="module")
def guarded_app(home: Path) -> Iterator[App]:
    """The app behind the door, with two accounts."""
    environment = {"CHATKIT_HOME": str(home), "CHATKIT_APP_MODELS": "scripted:"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATKIT_HOME", str(home))
        with opened_shelf() as shelf:
            wait_for(shelf.identity.add("anna", "admin", ANNA))
            wait_for(shelf.identity.add("bo", "user", BO))
    with running_guarded_app(home / "log", "password", environment) as app:
        yield app


@pytest.fixture
def somebody(browser: Browser, own_browser: BrowserContext) -> Iterator[Callable[[], Page]]:
    """Gives pages of strangers' browsers; the first of them knows the scripts already."""
    pages: list[Page] = []

    def page() -> Page:
        context = browser.new_context(viewport=SIZE) if pages else own_browser
        pages.append(context.new_page())
        return pages[-1]

    yield page
    for url in {page.url for page in own_browser.pages}:
        forget(own_browser, url)
    for page in pages[1:]:
        page.context.close()
    for page in own_browser.pages[1:]:
        page.close()


def sign_in(page: Page, app: App, name: str, password: str, path: str = "") -> None:
    """Go to the app, and fill in the form that stands before it."""
    page.goto(app.url + path)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def signed_in(page: Page, app: App, name: str = "anna", password: str = ANNA) -> Visitor:
    """Go to the app as somebody who has an account."""
    sign_in(page, app, name, password)
    return Visitor(page, app)


def test_only_who_signs_in_comes_in(guarded_app: App, somebody: Callable[[], Page]) -> None:
    page = somebody()
    sign_in(page, guarded_app, "anna", "a wrong password")
    expect(page.get_by_role("alert")).to_contain_text("The name or the password is wrong")
    expect(page.get_by_label("Name")).to_have_value("anna")
    page.get_by_label("Password").fill(ANNA)
    page.get_by_role("button", name="Sign in").click()
    visitor = Visitor(page, guarded_app)
    assert "hello there" in visitor.ask("hello there")
    expect(page.get_by_role("link", name="anna")).to_be_visible()


def test_a_person_has_their_conversations_on_every_device_and_nobody_elses(
    guarded_app: App, somebody: Callable[[], Page]
) -> None:
    desk = signed_in(somebody(), guarded_app)
    desk.ask("from the desk")
    phone = somebody()
    sign_in(phone, guarded_app, "Anna", ANNA, f"?conversation={desk.conversation}")
    expect(phone.get_by_role("article", name="You").locator(".text")).to_have_text("from the desk")
    other = somebody()
    sign_in(other, guarded_app, "bo", BO, f"?conversation={desk.conversation}")
    expect(other.get_by_role("alert").first).to_contain_text("no such conversation of yours")
    expect(other.locator(".entry")).to_have_count(0)


@pytest.mark.slow
def test_who_signs_out_is_out_in_every_tab_and_finds_the_draft_again(
    guarded_app: App, somebody: Callable[[], Page]
) -> None:
    page = somebody()
    visitor = signed_in(page, guarded_app, "bo", BO)
    visitor.ask("keep this open")
    visitor.field.fill("half a thought")
    beside = page.context.new_page()
    beside.goto(guarded_app.url.replace("/app", "/logout"))
    beside.get_by_role("button", name="Sign out").click()
    expect(beside.get_by_label("Password")).to_be_visible()
    page.get_by_label("Password").wait_for()
    page.get_by_label("Name").fill("bo")
    page.get_by_label("Password").fill(BO)
    page.get_by_role("button", name="Sign in").click()
    expect(visitor.questions.first.locator(".text")).to_have_text("keep this open")
    expect(visitor.field).to_have_value("half a thought")


def test_the_next_person_at_a_browser_finds_nothing_of_the_one_before(
    guarded_app: App, somebody: Callable[[], Page]
) -> None:
    page = somebody()
    visitor = signed_in(page, guarded_app, "bo", BO)
    visitor.field.fill("bo's own thought")
    page.goto(guarded_app.url.replace("/app", "/logout"))
    page.get_by_role("button", name="Sign out").click()
    visitor = signed_in(page, guarded_app)
    expect(visitor.field).to_have_value("")


@pytest.mark.slow
def test_a_disabled_person_is_sent_out_within_seconds(
    guarded_app: App, home: Path, somebody: Callable[[], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = somebody()
    signed_in(page, guarded_app, "bo", BO).ask("I am here")
    monkeypatch.setenv("CHATKIT_HOME", str(home))
    with opened_shelf() as shelf:
        bo = wait_for(shelf.identity.find("bo"))
        wait_for(shelf.identity.set_enabled(bo.id, False))
        page.get_by_label("Password").wait_for()
        wait_for(shelf.identity.set_enabled(bo.id, True))


@pytest.mark.slow
def test_sessions_are_listed_and_ended_and_the_password_changed(
    guarded_app: App, home: Path, somebody: Callable[[], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_HOME", str(home))
    with opened_shelf() as shelf:
        wait_for(shelf.identity.add("cy", "user", ANNA))
    elsewhere, page = somebody(), somebody()
    signed_in(elsewhere, guarded_app, "cy", ANNA).ask("x")
    signed_in(page, guarded_app, "cy", ANNA)
    page.get_by_role("link", name="cy").click()
    expect(page.get_by_role("listitem")).to_have_count(2)
    page.get_by_label("Old password").fill(ANNA)
    page.get_by_label("New password").fill("cy cy cy cy cy")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("alert")).to_contain_text("repeats")
    page.get_by_label("Old password").fill(ANNA)
    page.get_by_label("New password").fill(BO)
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("listitem")).to_have_count(1)
    elsewhere.get_by_label("Password").wait_for()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_no_page_of_the_door_has_a_violation(
    guarded_app: App, somebody: Callable[[], Page], scheme: Literal["light", "dark"]
) -> None:
    page = somebody()
    page.emulate_media(color_scheme=scheme)

    def look(screen: str) -> None:
        assert Axe().run(page).response["violations"] == [], screen
        keep_picture(page, f"{scheme} {screen}")

    sign_in(page, guarded_app, "anna", "a wrong password")
    look("sign-in")
    signed_in(page, guarded_app).ask("hello")
    for path in ("account", "admin", "logout"):
        page.goto(guarded_app.url.replace("/app", f"/{path}"))
        look(path)


@pytest.mark.parametrize("forged", ["", "0" * 64, "x", "anna"])
def test_a_forged_cookie_opens_nothing(
    guarded_app: App, somebody: Callable[[], Page], forged: str
) -> None:
    page = somebody()
    for name in ("chatkit_session", "user", "is_guest"):
        page.context.add_cookies([{"name": name, "value": forged, "url": guarded_app.url}])
    page.goto(guarded_app.url)
    expect(page.get_by_label("Password")).to_be_visible()


def test_a_cookie_signed_with_a_guessed_secret_opens_nothing(
    guarded_app: App, somebody: Callable[[], Page]
) -> None:
    page = somebody()
    value = create_signed_value("secret", "user", "anna").decode()
    page.context.add_cookies([{"name": "user", "value": value, "url": guarded_app.url}])
    page.goto(guarded_app.url)
    expect(page.get_by_label("Password")).to_be_visible()


def ask(app: App, method: str, path: str, headers: dict[str, str]) -> int:
    """Ask the server for something, as a program would."""
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=30)
    connection.request(method, path, headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_nobody_gets_a_websocket_or_a_page_past_the_door(guarded_app: App) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        "Sec-WebSocket-Protocol": "bokeh, x",
        "Origin": f"http://127.0.0.1:{guarded_app.port}",
    }
    assert ask(guarded_app, "GET", "/app/ws", upgrade) == 403
    for path in ("/app", "/app/metadata", "/app/autoload.js?bokeh-autoload-element=1", "/"):
        assert ask(guarded_app, "GET", path, {}) in (302, 401, 403), path


def test_another_site_can_post_nothing(guarded_app: App) -> None:
    for path in ("/login", "/logout", "/account"):
        assert ask(guarded_app, "POST", path, {"Origin": "http://evil.example"}) == 403


@pytest.mark.parametrize(
    "aim", ["//evil.example/x", "https://evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_the_sign_in_leads_to_no_other_site(
    guarded_app: App, somebody: Callable[[], Page], aim: str
) -> None:
    page = somebody()
    page.goto(guarded_app.url.replace("/app", f"/login?next={aim}"))
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(ANNA)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(guarded_app.url)


@pytest.mark.slow
def test_the_page_refuses_to_be_open_when_sign_in_was_asked_for(
    tmp_path: Path, somebody: Callable[[], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_AUTH", "password")
    with running_app(tmp_path / "log", tmp_path / "home", "scripted:") as app:
        page = somebody()
        page.goto(app.url)
        wait_until(lambda: "python -m serve app --auth" in app.log.read_text(), "it is said")
        assert page.get_by_label("Message", exact=True).count() == 0


@pytest.fixture(scope="module")
def openid() -> Iterator[OpenIdService]:
    with running_openid_service() as service:
        yield service


@pytest.fixture(scope="module")
def openid_app(tmp_path_factory: pytest.TempPathFactory, openid: OpenIdService) -> Iterator[App]:
    home = tmp_path_factory.mktemp("openid")
    environment = {
        "CHATKIT_HOME": str(home),
        "CHATKIT_APP_MODELS": "scripted:",
        "CHATKIT_OPENID_ISSUER": openid.issuer,
        "CHATKIT_OPENID_CLIENT_ID": CLIENT,
        "CHATKIT_OPENID_CLIENT_SECRET": SECRET,
        "CHATKIT_OPENID_DOMAINS": "example.org",
    }
    with running_guarded_app(home / "log", "oauth", environment) as app:
        yield app


ADA = {"sub": "1", "email": "ada@example.org", "email_verified": True}


def test_who_is_vouched_for_elsewhere_comes_in(
    openid_app: App, openid: OpenIdService, somebody: Callable[[], Page]
) -> None:
    openid.person, openid.lies = ADA, {}
    page = somebody()
    page.goto(openid_app.url + "?conversation=")
    page.get_by_role("button", name="Sign in with 127.0.0.1").click()
    assert "hello" in Visitor(page, openid_app).ask("hello")
    expect(page.get_by_role("link", name="ada@example.org")).to_be_visible()


@pytest.mark.parametrize(
    ("person", "lies", "why"),
    [
        (ADA, {"nonce": "another"}, "did not succeed"),
        (ADA, {"aud": "another"}, "did not succeed"),
        (ADA, {"iss": "http://evil.example"}, "did not succeed"),
        (ADA, {"exp": 1_000_000_000}, "did not succeed"),
        (ADA, {"state": "another"}, "did not succeed"),
        (ADA, {"error": "denied"}, "said no"),
        ({**ADA, "sub": "2", "email_verified": False}, {}, "no checked mail address"),
        ({**ADA, "sub": "3"}, {}, "belongs to somebody else"),
        ({**ADA, "sub": "4", "email": "x@example.com"}, {}, "ask an admin to make one"),
    ],
)
def test_who_is_not_vouched_for_stays_out(
    openid_app: App,
    openid: OpenIdService,
    somebody: Callable[[], Page],
    person: dict[str, object],
    lies: dict[str, object],
    why: str,
) -> None:
    openid.person, openid.lies = person, lies
    page = somebody()
    page.goto(openid_app.url)
    page.get_by_role("button", name="Sign in with").click()
    expect(page.get_by_role("alert")).to_contain_text(why)
    page.goto(openid_app.url)
    expect(page.get_by_role("button", name="Sign in with")).to_be_visible()


@pytest.mark.parametrize(
    "key",
    [
        RSAKey.generate_key(2048, {"kid": "one"}),
        OctKey.import_key(os.urandom(32), {"kid": "one"}),
    ],
    ids=["another RSA key", "a symmetric key"],
)
def test_a_token_that_the_service_did_not_sign_is_nothing(
    openid_app: App,
    openid: OpenIdService,
    somebody: Callable[[], Page],
    monkeypatch: pytest.MonkeyPatch,
    key: object,
) -> None:
    openid.person, openid.lies = ADA, {}
    monkeypatch.setattr(openid, "key", key)
    page = somebody()
    page.goto(openid_app.url)
    page.get_by_role("button", name="Sign in with").click()
    expect(page.get_by_role("alert")).to_contain_text("did not succeed")


def test_a_return_that_was_not_begun_here_is_refused(openid_app: App) -> None:
    assert ask(openid_app, "GET", "/login/return?code=x&state=y", {}) == 401


def administration(page: Page, app: App) -> Page:
    """Open the administration as an admin who has just signed in."""
    signed_in(page, app)
    return administration_of(page)


def administration_of(page: Page) -> Page:
    """Open the administration from the chat."""
    page.get_by_role("link", name="Administration").click()
    page.get_by_role("heading", name="Administration").wait_for()
    return page


def test_the_administration_is_for_admins_only(
    guarded_app: App, somebody: Callable[[], Page]
) -> None:
    page = somebody()
    visitor = signed_in(page, guarded_app, "bo", BO)
    expect(visitor.page.get_by_role("link", name="bo")).to_be_visible()
    expect(page.get_by_role("link", name="Administration")).to_have_count(0)
    answer = page.goto(guarded_app.url.replace("/app", "/admin"))
    assert answer is not None and answer.status == 403
    expect(page.get_by_role("alert")).to_contain_text("Only an admin")
    stranger = somebody()
    stranger.goto(guarded_app.url.replace("/app", "/admin"))
    expect(stranger.get_by_label("Password")).to_be_visible()


@pytest.mark.slow
def test_the_administration_shows_usage_models_errors_and_the_log(
    guarded_app: App, somebody: Callable[[], Page]
) -> None:
    page = somebody()
    visitor = signed_in(page, guarded_app)
    visitor.ask("count me")
    visitor.press("Good answer")
    administration_of(page)
    expect(page.get_by_role("img")).to_have_count(1)
    row = page.get_by_role("region", name="Answers by model").get_by_role("row").last
    expect(row).to_contain_text("scripted:")
    expect(page.get_by_role("region", name="Models").last).to_contain_text("✓ answers")
    log = page.get_by_role("region", name="Audit log").last
    expect(log).to_contain_text("sign in")
    expect(log).to_contain_text("anna")
    assert "count me" not in page.content()
    assert Axe().run(page).response["violations"] == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.slow
def test_an_admin_adds_helps_promotes_disables_and_deletes_somebody(
    guarded_app: App, somebody: Callable[[], Page]
) -> None:
    page = administration(somebody(), guarded_app)
    page.get_by_text("Add somebody").click()
    page.get_by_label("Name, or mail address").fill("<b>dee</b>")
    page.get_by_label("First password").fill(BO)
    page.get_by_role("button", name="Add", exact=True).click()
    people = page.get_by_role("region", name="People").last
    row = people.get_by_role("row").filter(has_text="<b>dee</b>")
    expect(row).to_contain_text("may sign in")
    signed_in(somebody(), guarded_app, "<b>dee</b>", BO)
    page.get_by_role("link", name="New password: <b>dee</b>").click()
    page.get_by_label("New password").fill(ANNA)
    page.get_by_role("button", name="Set the password").click()
    signed_in(somebody(), guarded_app, "<b>dee</b>", ANNA)
    page.get_by_role("button", name="Make admin: <b>dee</b>").click()
    expect(row).to_contain_text("Make user")
    page.get_by_role("button", name="Disable: <b>dee</b>").click()
    expect(row).to_contain_text("disabled")
    page.get_by_role("link", name="Delete <b>dee</b>").click()
    expect(page.get_by_text("with 0 conversations")).to_be_visible()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("heading", name="People")).to_be_visible()
    expect(row).to_have_count(0)


@pytest.mark.slow
def test_the_last_admin_stays(guarded_app: App, somebody: Callable[[], Page]) -> None:
    page = administration(somebody(), guarded_app)
    page.get_by_role("button", name="Disable: anna").click()
    expect(page.get_by_role("alert")).to_contain_text("only admin")
