"""Who is in front of a page: a guest, or somebody who has signed in."""

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

import panel as pn

from chatkit.chat import ChatService
from chatkit.errors import NotSignedIn
from chatkit.identity.account import Account
from chatkit.service import shared_service
from chatkit.settings import settings
from chatkit.ui.sign_in.cookie import SESSION
from chatkit.ui.visitor import visitor_of

_REMEMBERED = 10_000
# Who was let in by the server just before their page was made; what they may do is asked anew.
_let_in: OrderedDict[str, Account] = OrderedDict()
_guarded = threading.Event()


class Door(Protocol):
    """Says whose page it is."""

    async def enter(self, token: str) -> str:
        """Name the user.

        Args:
            token: what the browser has made for itself.

        Raises:
            InputError: the token is none.
            NotSignedIn: nobody is signed in.
        """

    async def check(self) -> None:
        """Check that whoever entered may still be here.

        Raises:
            NotSignedIn: they were signed out.
        """


class GuestDoor:
    """Everybody may come in; a browser is known by a secret that it made for itself."""

    async def enter(self, token: str) -> str:
        """Name the browser's user; see `Door.enter`."""
        return visitor_of(token)

    async def check(self) -> None:
        """Guests stay; see `Door.check`."""


class SignedInDoor:
    """Only who has signed in comes in, and only as long as their session lasts.

    Args:
        session: what their browser keeps.
        opened: gives the chat service, which knows who is signed in.
    """

    def __init__(
        self, session: str, opened: Callable[[], Awaitable[ChatService]] = shared_service
    ) -> None:
        self._session = session
        self._opened = opened

    async def enter(self, token: str) -> str:
        """Name the account's user; see `Door.enter`."""
        return (await self._who()).id

    async def check(self) -> None:
        """Ask for the session; see `Door.check`."""
        await self._who()

    async def _who(self) -> Account:
        return await (await self._opened()).identity.who(self._session)


def guard() -> None:
    """Note that the server of this process lets nobody in who has not signed in."""
    _guarded.set()


def let_in(session: str, account: Account) -> None:
    """Note who comes in, for the page that is made for them next."""
    _let_in[session] = account
    _let_in.move_to_end(session)
    while len(_let_in) > _REMEMBERED:
        _let_in.popitem(last=False)


def check_guarded() -> None:
    """Check that sign-in is at work when it was asked for.

    Raises:
        NotSignedIn: `CHATKIT_AUTH` asks for it, and this server lets everybody in.
    """
    asked = settings().auth
    if asked != "none" and not _guarded.is_set():
        raise NotSignedIn(
            f"CHATKIT_AUTH asks for sign-in by {asked}, and this server lets everybody in; start "
            f"it with `python -m serve app --auth {asked}`."
        )


def door_of_page() -> tuple[Door, Account | None]:
    """Tell who is in front of the page that is being made, and their account.

    Raises:
        NotSignedIn: sign-in was asked for, and nobody is signed in.
    """
    check_guarded()
    if not _guarded.is_set():
        return GuestDoor(), None
    session = pn.state.cookies.get(SESSION, "")
    account = _let_in.get(session)
    if account is None:
        raise NotSignedIn("You are not signed in; sign in and open the page again.")
    return SignedInDoor(session), account
