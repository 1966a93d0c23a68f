"""Link previews: what is read of a page, and that only the public web is read."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from browser import ROOT, Visit, running_app
from playwright.sync_api import expect

from chatkit.errors import InputError
from chatkit.ui import public_web
from chatkit.ui.previews import Preview, Previews, read_preview
from chatkit.ui.public_web import GuardedNetwork, PublicWeb, is_public

pytest_plugins = "visiting"

PAGE = """<!doctype html><html><head><title>Old title</title>
<meta property="og:title" content="Tides &amp; moons\u202e <b>">
<meta name="description" content="Why the sea &lt;script&gt; rises.">
</head><body><title>no title</title></body></html>"""


class Pages(BaseHTTPRequestHandler):
    """Answers as its path says."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        match self.path:
            case "/page":
                self.give(200, "text/html; charset=utf-8", PAGE.encode())
            case "/data":
                self.give(200, "application/json", b"{}")
            case "/endless":
                self.give(302, "text/html", b"", "/endless")
            case "/private":
                self.give(302, "text/html", b"", f"http://127.0.0.2:{self.server.server_port}/page")
            case "/file":
                self.give(302, "text/html", b"", "file:///etc/passwd")
            case "/huge":
                self.give(200, "text/html", PAGE.encode() + b"x" * 10_000_000)
            case "/slow":
                time.sleep(1)
                self.give(200, "text/html", PAGE.encode())
            case _:
                self.give(404, "text/html", b"")

    def give(self, status: int, kind: str, body: bytes, to: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if to:
            self.send_header("Location", to)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    """A web server of this machine, which counts as public in the tests that say so."""
    Pages.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def open_web() -> PublicWeb:
    return PublicWeb(GuardedNetwork(lambda address: address == "127.0.0.1"), any_port=True)


@pytest.mark.lengthy
@pytest.mark.anyio
async def test_a_page_says_its_title_and_a_sentence(web: str) -> None:
    (found,) = await Previews(open_web()).of(f'<p><a href="{web}/page">x</a></p>')
    assert found == Preview(
        f"{web}/page", "127.0.0.1", "Tides & moons <b>", "Why the sea <script> rises."
    )


@pytest.mark.lengthy
@pytest.mark.anyio
async def test_a_page_is_asked_once_a_day_and_three_of_an_answer(web: str) -> None:
    previews = Previews(open_web())
    answer = "".join(f'<a href="{web}/{name}">x</a>' for name in ("page", "a", "page", "b", "c"))
    for _ in range(3):
        assert len(await previews.of(answer)) == 1
    assert sorted(Pages.asked) == ["/a", "/b", "/page"]


@pytest.mark.lengthy
@pytest.mark.anyio
@pytest.mark.parametrize("path", ["data", "endless", "private", "file", "nothing"])
async def test_what_is_no_page_or_leads_elsewhere_gives_nothing(web: str, path: str) -> None:
    with pytest.raises(InputError):
        await open_web().head(f"{web}/{path}")
    assert await Previews(open_web()).of(f'<a href="{web}/{path}">x</a>') == ()


@pytest.mark.lengthy
@pytest.mark.anyio
async def test_of_a_huge_page_the_beginning_is_read(web: str) -> None:
    page = await open_web().head(f"{web}/huge")
    assert len(page.encode()) == public_web.LARGEST


@pytest.mark.lengthy
@pytest.mark.anyio
async def test_a_slow_page_is_given_up(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_web, "SECONDS", 0.2)
    assert await Previews(open_web()).of(f'<a href="{web}/slow">x</a>') == ()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f.1", "0", "127.1", "[::1]", "[::]"),
        *("[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[fd00::1]"),
        *("[fe80::1]", "224.0.0.1", "255.255.255.255"),
    ],
)
async def test_private_addresses_are_not_asked(host: str) -> None:
    with pytest.raises(InputError, match="private network"):
        await PublicWeb().head(f"http://{host}/")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://example.org/", "gopher://example.org", "http://", "x"),
        *("http://example.org:22/", "https://example.org:80/", "http://user@example.org/"),
    ],
)
async def test_what_is_no_address_of_the_web_is_not_asked(url: str) -> None:
    with pytest.raises(InputError, match="no address of the public web"):
        await PublicWeb().head(url)


def test_public_addresses_are_public() -> None:
    assert not is_public("64:ff9b::7f00:1")
    assert all(map(is_public, ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946")))


def test_a_page_without_a_title_says_nothing() -> None:
    assert read_preview("https://example.org", "<p>x</p><title></title>") is None
    assert read_preview("https://example.org", "<title" + "<" * 10_000) is None


@pytest.mark.slow
@pytest.mark.browser
def test_links_show_what_they_lead_to_when_both_sides_want_it(
    web: str, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_LINK_PREVIEWS", "on")
    script = str((ROOT / "tests" / "preview_app.py").relative_to(ROOT))
    with running_app(tmp_path / "log", tmp_path / "home", "scripted:", script=script) as app:
        visitor = visit(app)
        visitor.ask(f"see [this]({web}/page)")
        visitor.page.wait_for_timeout(500)
        assert Pages.asked == []
        visitor.press("Preferences")
        visitor.page.get_by_label("Links in answers show").check()
        visitor.press("Close")
        visitor.page.wait_for_timeout(500)
        visitor.reload()
        shown = visitor.page.get_by_role("list", name="What links lead to")
        expect(shown.get_by_role("link")).to_contain_text("Tides & moons <b>")
        expect(shown.get_by_role("link")).to_have_attribute("rel", "noopener noreferrer nofollow")
