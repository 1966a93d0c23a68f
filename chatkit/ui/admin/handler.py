"""`/admin`: reads and does what an admin may, and nothing for anybody else."""

import time
from html import escape

from chatkit.chat import ChatService
from chatkit.errors import ChatkitError, Forbidden, InputError
from chatkit.identity.account import Account, checked_role
from chatkit.models import shared_models
from chatkit.service import shared_service
from chatkit.settings import settings
from chatkit.store.usage import DAY_SECONDS
from chatkit.ui.admin.sections import (
    RANGES,
    audit_section,
    deletion,
    errors_section,
    models_section,
    new_password,
    overview,
    people_section,
    usage_section,
)
from chatkit.ui.sign_in.handlers import DoorHandler
from chatkit.ui.sign_in.pages import write_page

_ENTRIES, _PAGE = 200, 500
_SECTIONS = ("Usage", "Models", "Errors", "People", "Audit log")


class AdminHandler(DoorHandler):
    """The administration; each access is checked again by the service."""

    async def get(self) -> None:
        """Show everything, or the form for one person."""
        me = await self._admin()
        if me is None:
            return
        service = await shared_service()
        user, of = self.get_argument("delete", ""), self.get_argument("password", "")
        try:
            if of:
                account = await service.identity.account(of, me.id)
                write_page(self, "New password", new_password(account))
            elif user:
                account = await service.identity.check_may_go(user, me.id)
                number = len(await service.store.conversations.ids(user))
                write_page(self, "Delete somebody", deletion(account, number))
            else:
                await self._show(service, me)
        except ChatkitError as error:
            await self._show(service, me, str(error))

    async def post(self) -> None:
        """Do what a form asks for."""
        me = await self._admin()
        if me is None:
            return
        service = await shared_service()
        try:
            await self._obey(service, me)
        except ChatkitError as error:
            self.set_status(403 if isinstance(error, Forbidden) else 400)
            await self._show(service, me, str(error))
            return
        self.redirect(f"{self.path_of('admin')}#people")

    async def _admin(self) -> Account | None:
        me = await self.account()
        if me is not None and me.role != "admin":
            self.set_status(403)
            back = f"<p><a href='{escape(self.path_of('app'))}'>Back to the chat</a></p>"
            write_page(self, "Administration", back, "Only an admin may see this; ask one.")
            return None
        return me

    async def _obey(self, service: ChatService, me: Account) -> None:
        identity = service.identity
        user, value = self.get_body_argument("user", ""), self.get_body_argument("value", "")
        match self.get_body_argument("do", ""):
            case "add":
                name, role = self.get_body_argument("name", ""), self.get_body_argument("role", "")
                password = self.get_body_argument("password", None, strip=False)
                if password is None and settings().auth == "password":
                    raise InputError("The password is missing; write one.")
                await identity.add(name, checked_role(role), password, me.id)
            case "role":
                await identity.set_role(user, checked_role(value), me.id)
            case "password":
                password = self.get_body_argument("password", "", strip=False)
                await identity.set_password(user, password, me.id)
            case "enable" | "disable" as do:
                await identity.set_enabled(user, do == "enable", me.id)
            case "sign out":
                await identity.check_admin(me.id)
                await identity.end_sessions(user)
            case "delete":
                await identity.check_may_go(user, me.id)
                await service.delete_user(user, me.id)
            case _:
                raise InputError("The form asks for nothing that there is; reload the page.")

    async def _show(self, service: ChatService, me: Account, said: str = "") -> None:
        days = self._days
        usage = await service.usage(me.id, time.time() - days * DAY_SECONDS)
        accounts = list(await service.identity.accounts(me.id, _PAGE))
        names = {service.store.keys.pseudonym(one.id): one.name for one in accounts}
        names[service.store.keys.pseudonym("operator")] = "the command line"
        parts = {
            "Usage": overview(usage, days, len(accounts)) + usage_section(usage, days),
            "Models": models_section(await shared_models().states()),
            "Errors": errors_section(usage),
            "People": people_section(accounts, me.id, settings().auth == "password"),
            "Audit log": audit_section(await service.audit_log(me.id, _ENTRIES), names),
        }
        links = "".join(f"<a href='#{_anchor(name)}'>{name}</a>" for name in _SECTIONS)
        body = f"<nav aria-label='Sections'><a href='{escape(self.path_of('app'))}'>Chat</a>{links}"
        body += "</nav>" + "".join(
            f"<section><h2 id='{_anchor(name)}'>{name}</h2>{parts[name]}</section>"
            for name in _SECTIONS
        )
        write_page(self, "Administration", body, said, wide=True)

    @property
    def _days(self) -> int:
        asked = self.get_argument("days", "")
        return int(asked) if asked.isdecimal() and int(asked) in RANGES else 30


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
