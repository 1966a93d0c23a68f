"""Tornado handlers of the door: sign in, come back from elsewhere, sign out, one's own account."""

import asyncio
import logging
from html import escape
from time import gmtime, strftime
from typing import cast
from urllib.parse import urlencode, urlsplit

from bokeh.server.tornado import BokehTornado
from tornado.web import HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler

from chatkit.errors import ChatkitError, NotSignedIn
from chatkit.identity.account import Account
from chatkit.identity.identity import Identity
from chatkit.identity.openid import OpenId
from chatkit.identity.sessions import SessionRecord
from chatkit.service import shared_service
from chatkit.settings import settings
from chatkit.ui.sign_in.cookie import (
    drop_session,
    keep_attempt,
    keep_session,
    session_of,
    take_attempt,
)
from chatkit.ui.sign_in.door import let_in
from chatkit.ui.sign_in.pages import elsewhere_form, password_form, write_page

_opened: dict[asyncio.AbstractEventLoop, OpenId] = {}


async def user_of(handler: RequestHandler) -> str | None:
    """Name who asks the server for something, None when nobody is signed in.

    A websocket of nobody is refused here: it can be sent nowhere else.
    """
    try:
        account = await (await _identity()).who(session_of(handler))
    except NotSignedIn as error:
        if isinstance(handler, WebSocketHandler):
            raise HTTPError(403) from error
        return None
    let_in(session_of(handler), account)
    return account.id


class DoorHandler(RequestHandler):
    """What the pages of the door share."""

    def prepare(self) -> None:
        """Refuse forms that another site sends with this browser."""
        origin = self.request.headers.get("Origin")
        if (
            self.request.method == "POST"
            and origin
            and urlsplit(origin).netloc != self.request.host
        ):
            raise HTTPError(403)

    def write_error(self, status_code: int, **_: object) -> None:
        """Say that something went wrong, without telling what of the server."""
        write_page(self, "That did not work", "<p><a href='./'>Go to the app</a></p>")

    @property
    def to(self) -> str:
        """Where the visitor wanted to go: a place on this server, whatever the address says."""
        wanted = self.get_argument("next", "") or ""
        parts = urlsplit(wanted)
        inside = wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted
        return wanted if inside and not parts.scheme and not parts.netloc else self.path_of("app")

    @property
    def agent(self) -> str:
        """What the browser calls itself."""
        return self.request.headers.get("User-Agent", "")

    def path_of(self, page: str) -> str:
        """Give the path of a page of this server."""
        return f"{cast(BokehTornado, self.application).prefix}/{page}"

    def address_of(self, page: str) -> str:
        """Give the whole address of a page of this server."""
        return f"{self.request.protocol}://{self.request.host}{self.path_of(page)}"

    async def account(self) -> Account | None:
        """Tell who is signed in; who is not is sent to the sign-in."""
        try:
            return await (await _identity()).who(session_of(self))
        except NotSignedIn:
            self.redirect(f"{self.path_of('login')}?{urlencode({'next': self.request.path})}")
            return None


class LoginHandler(DoorHandler):
    """Asks for name and password, or leads to the service that knows people."""

    async def get(self) -> None:
        """Show the form."""
        self.show()

    async def post(self) -> None:
        """Sign in, or begin to do so elsewhere."""
        if settings().auth == "oauth":
            await self._begin_elsewhere()
            return
        name, password = (
            self.get_body_argument("name", ""),
            self.get_body_argument("password", "", strip=False),
        )
        try:
            token = await (await _identity()).sign_in(name, password, self.agent)
        except ChatkitError as error:
            self.set_status(401)
            self.show(str(error), name)
            return
        keep_session(self, token)
        self.redirect(self.to)

    def show(self, said: str = "", name: str = "") -> None:
        """Show the form with a sentence above."""
        if settings().auth == "oauth":
            service = urlsplit(settings().openid_issuer).netloc
            write_page(self, "Sign in", elsewhere_form(service, self.to), said)
        else:
            write_page(self, "Sign in", password_form(name, self.to), said)

    async def _begin_elsewhere(self) -> None:
        try:
            address, attempt = await _open_id().begin(self.address_of("login/return"))
        except ChatkitError as error:
            self.set_status(502)
            self.show(str(error))
            return
        keep_attempt(self, attempt, self.to)
        self.redirect(address)


class ReturnHandler(DoorHandler):
    """Takes who comes back from the service that knows people."""

    async def get(self) -> None:
        """Sign in whom the service vouches for."""
        begun = take_attempt(self)
        try:
            if begun is None or settings().auth != "oauth":
                raise NotSignedIn("The sign-in was not begun in this browser; begin again.")
            if why := self.get_argument("error_description", self.get_argument("error", "")):
                raise NotSignedIn(f"The service said no ({why[:200]}); begin again.")
            attempt, to = begun
            claims = await _open_id().finish(
                attempt,
                self.get_argument("state", ""),
                self.get_argument("code", ""),
                self.address_of("login/return"),
            )
            identity = await _identity()
            domains = settings().openid_domains
            token = await identity.sign_in_elsewhere(claims, domains, self.agent)
        except ChatkitError as error:
            logging.getLogger(__name__).warning("a sign-in elsewhere failed: %s", error)
            self.set_status(401)
            again = f"<p><a href='{escape(self.path_of('login'))}'>Sign in again</a></p>"
            write_page(self, "Sign in", again, str(error))
            return
        keep_session(self, token)
        self.redirect(to)


class LogoutHandler(DoorHandler):
    """Ends the session of this browser."""

    async def get(self) -> None:
        """Ask once more: a link of another site must not sign anybody out."""
        write_page(self, "Sign out", "<form method='post'><button>Sign out</button></form>")

    async def post(self) -> None:
        """End the session."""
        await (await _identity()).sign_out(session_of(self))
        drop_session(self)
        self.redirect(self.path_of("login"))


class AccountHandler(DoorHandler):
    """One's own password and sessions."""

    async def get(self) -> None:
        """Show them."""
        account = await self.account()
        if account is not None:
            await self._show(account)

    async def post(self) -> None:
        """Change the password, or end sessions."""
        account = await self.account()
        if account is None:
            return
        identity = await _identity()
        try:
            if self.get_body_argument("do", "") == "password":
                await self._change_password(identity, account)
            else:
                await identity.end_sessions(
                    account.id, self.get_body_argument("session", "") or None
                )
        except ChatkitError as error:
            await self._show(account, str(error))
            return
        self.redirect(self.path_of("account"))

    async def _change_password(self, identity: Identity, account: Account) -> None:
        new = self.get_body_argument("new", "", strip=False)
        await identity.change_password(
            account.id, self.get_body_argument("old", "", strip=False), new
        )
        keep_session(self, await identity.sign_in(account.name, new, self.agent))

    async def _show(self, account: Account, said: str = "") -> None:
        sessions = await (await _identity()).sessions(account.id)
        body = (
            f"<p>{escape(account.name)} · <a href='{escape(self.path_of('app'))}'>Back to the chat"
            "</a></p>"
        )
        body += _password_form() if account.has_password else ""
        body += f"<h2>Signed in</h2><ul>{''.join(map(_session_item, sessions))}</ul>"
        body += "<form method='post'><button class='plain'>Sign out everywhere</button></form>"
        write_page(self, "Account", body, said)


def _password_form() -> str:
    return (
        "<h2>Password</h2><form method='post'><input type='hidden' name='do' value='password'>"
        "<label>Old password<input name='old' type='password' required "
        "autocomplete='current-password'></label>"
        "<label>New password, 12 characters or more<input name='new' type='password' required "
        "minlength='12' autocomplete='new-password'></label>"
        "<button>Change the password</button></form>"
    )


def _session_item(session: SessionRecord) -> str:
    seen = strftime("%Y-%m-%d %H:%M UTC", gmtime(session.seen))
    agent = escape(_browser(session.agent))
    return (
        f"<li><span>{agent}<small>Last used {seen}</small></span><form method='post'>"
        f"<input type='hidden' name='session' value='{session.id}'>"
        f"<button class='plain' aria-label='Sign out {agent}'>Sign out</button></form></li>"
    )


def _browser(agent: str) -> str:
    """Name a browser and its machine as people call them."""
    browsers = ("Edg", "OPR", "Firefox", "Chrome", "Safari")
    systems = ("Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux")
    named = {"Edg": "Edge", "OPR": "Opera", "Mac OS": "macOS"}
    browser = next((one for one in browsers if one in agent), "")
    system = next((one for one in systems if one in agent), "")
    found = [named.get(one, one) for one in (browser, system) if one]
    return " on ".join(found) or agent[:60] or "A browser without a name"


async def _identity() -> Identity:
    return (await shared_service()).identity


def _open_id() -> OpenId:
    loop = asyncio.get_running_loop()
    if loop not in _opened:
        # Takes 5 MB, which only this way of signing in needs.
        import httpx

        now = settings()
        _opened[loop] = OpenId(
            now.openid_issuer, now.openid_client_id, now.openid_client_secret, httpx.AsyncClient()
        )
    return _opened[loop]
