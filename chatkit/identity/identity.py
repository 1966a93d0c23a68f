"""Signs people in and out, and lets admins look after accounts."""

import time
from typing import Any

from chatkit.errors import Forbidden, InputError, NotFound, NotSignedIn
from chatkit.identity.account import Account, Role, checked_account_name
from chatkit.identity.accounts import Accounts
from chatkit.identity.openid import Claims
from chatkit.identity.passwords import Passwords, checked_password
from chatkit.identity.sessions import SessionRecord, Sessions
from chatkit.store.audit import Action
from chatkit.store.opening import Store

# Who works on the machine itself, at a command line.
OPERATOR = "operator"
_WRONG = "The name or the password is wrong; try again."
_OVER = "You are not signed in any more; sign in again."


class Identity:
    """Every door asks here who somebody is; it belongs to one event loop.

    Args:
        store: where accounts and sessions are.
    """

    def __init__(self, store: Store) -> None:
        self._accounts = Accounts(store)
        self._sessions = Sessions(store)
        self._passwords = Passwords()

    async def sign_in(self, name: str, password: str, agent: str = "") -> str:
        """Sign in with a password.

        Args:
            name: of the account.
            password: of the account.
            agent: what the browser calls itself.

        Returns: the secret of the new session.

        Raises:
            NotSignedIn: the name or the password is wrong, or too many were.
        """
        now = time.time()
        tried = await self._accounts.take_try(name, now)
        if tried is not None and tried.locked_until > now:
            minutes = -int(-(tried.locked_until - now) // 60)
            raise NotSignedIn(
                f"There were too many wrong passwords; wait {minutes} "
                f"{'minute' if minutes == 1 else 'minutes'} and try again."
            )
        hashed = tried.hashed if tried else None
        # Nobody's name takes as long as somebody's, and says the same.
        if not await self._passwords.fits(hashed, password) or tried is None or hashed is None:
            raise NotSignedIn(_WRONG)
        if self._passwords.is_outdated(hashed):
            hashed = await self._passwords.hash(password)
        await self._accounts.forgive(tried.id, hashed)
        return await self._sessions.begin(tried.id, agent)

    async def sign_in_elsewhere(
        self, claims: Claims, domains: frozenset[str], agent: str = ""
    ) -> str:
        """Sign in somebody for whom another service vouches.

        Who came before is known by the name that the service never gives to another. Who comes
        for the first time takes the account that an admin has made for their mail address, or
        gets a new one when everybody of their mail domain may come.

        Args:
            claims: what the service says of them.
            domains: of mail addresses, whose people may come without an account.
            agent: what the browser calls itself.

        Returns: the secret of the new session.

        Raises:
            NotSignedIn: nobody has asked them in, or their account is disabled.
        """
        account = await self._accounts.known_elsewhere(claims.external)
        if account is None:
            account = await self._newcomer(claims, domains)
            if not await self._accounts.bind(account.id, claims.external):
                raise NotSignedIn(
                    f"The account {account.name!r} belongs to somebody else; ask an admin."
                )
        if not account.enabled:
            raise NotSignedIn(f"The account {account.name!r} is disabled; ask an admin.")
        return await self._sessions.begin(account.id, agent)

    async def who(self, token: str) -> Account:
        """Tell who is signed in with a secret, as they are now.

        Raises:
            NotSignedIn: nobody is, any more.
        """
        user = await self._sessions.user_of(token) if token else None
        if user is None:
            raise NotSignedIn(_OVER)
        try:
            account = await self._accounts.of(user)
        except NotFound:
            raise NotSignedIn(_OVER) from None
        if not account.enabled:
            raise NotSignedIn(_OVER)
        return account

    async def sign_out(self, token: str) -> None:
        """End a session."""
        await self._sessions.end(token)

    async def sessions(self, user: str) -> tuple[SessionRecord, ...]:
        """List the browsers that somebody is signed in with, the last used first."""
        return await self._sessions.of(user)

    async def end_sessions(self, user: str, session: str | None = None) -> int:
        """Sign somebody out of one browser or of all, and tell of how many."""
        return await self._sessions.end_of(user, session)

    async def change_password(self, user: str, old: str, new: str) -> None:
        """Let somebody change their own password; all their other sessions end.

        Raises:
            NotSignedIn: the old one is wrong.
            InputError: the new one cannot be used.
        """
        account = await self._accounts.of(user)
        checked_password(new, account.name)
        now = time.time()
        tried = await self._accounts.take_try(account.name, now)
        fits = tried is not None and tried.locked_until <= now
        if not await self._passwords.fits(tried.hashed if tried and fits else None, old):
            raise NotSignedIn("The old password is wrong; try again.")
        await self._set_password(account, new, user)

    async def add(
        self, name: str, role: Role = "user", password: str | None = None, actor: str = OPERATOR
    ) -> Account:
        """Make an account.

        Args:
            name: what its owner signs in with; their mail address when they sign in elsewhere.
            role: what they may do.
            password: None for who signs in elsewhere.
            actor: who makes it.

        Raises:
            InputError: the name or the password cannot be used, or somebody has the name.
            Forbidden: the actor is no admin.
        """
        await self._check_admin(actor)
        name = checked_account_name(name)
        if password is not None:
            checked_password(password, name)
        hashed = await self._passwords.hash(password) if password is not None else None
        return await self._accounts.add(name, role, hashed, actor)

    async def find(self, name: str) -> Account:
        """Find an account by its name.

        Raises:
            NotFound: there is none.
        """
        return await self._accounts.named(name)

    async def accounts(
        self, actor: str = OPERATOR, limit: int = 100, after: str = ""
    ) -> tuple[Account, ...]:
        """List accounts, so many after one.

        Raises:
            Forbidden: the actor is no admin.
        """
        await self._check_admin(actor)
        return await self._accounts.page(limit, after)

    async def account(self, user: str, actor: str = OPERATOR) -> Account:
        """Find the account of a user.

        Raises:
            Forbidden: the actor is no admin.
            NotFound: there is no such account.
        """
        return await self._looked_after(user, actor)

    async def has_accounts(self) -> bool:
        """Tell whether anybody could sign in."""
        return await self._accounts.count() > 0

    async def set_role(self, user: str, role: Role, actor: str = OPERATOR) -> None:
        """Give somebody another role.

        Raises:
            Forbidden: the actor is no admin.
            InputError: nobody would be an admin any more.
            NotFound: there is no such account.
        """
        account = await self._looked_after(user, actor)
        if role != "admin":
            await self._check_not_last(account)
        await self._change(account, "set role", actor, role=role)

    async def set_enabled(self, user: str, enabled: bool, actor: str = OPERATOR) -> None:
        """Let somebody sign in, or no longer: then all their sessions end.

        Raises:
            Forbidden: the actor is no admin.
            InputError: nobody would be an admin any more.
            NotFound: there is no such account.
        """
        account = await self._looked_after(user, actor)
        if not enabled:
            await self._check_not_last(account)
        action: Action = "enable account" if enabled else "disable account"
        await self._change(account, action, actor, enabled=enabled)
        if not enabled:
            await self._sessions.end_of(user)

    async def set_password(self, user: str, password: str, actor: str = OPERATOR) -> None:
        """Give somebody another password, and end their sessions.

        Raises:
            Forbidden: the actor is no admin.
            InputError: the password cannot be used.
            NotFound: there is no such account.
        """
        account = await self._looked_after(user, actor)
        await self._set_password(account, checked_password(password, account.name), actor)

    async def check_may_go(self, user: str, actor: str = OPERATOR) -> Account:
        """Find the account of somebody who is to be deleted.

        Raises:
            Forbidden: the actor is neither an admin nor the person.
            InputError: nobody would be an admin any more.
            NotFound: there is no such account.
        """
        if user == actor:
            account = await self._accounts.of(user)
        else:
            account = await self._looked_after(user, actor)
        await self._check_not_last(account)
        return account

    async def _newcomer(self, claims: Claims, domains: frozenset[str]) -> Account:
        if not claims.mail:
            raise NotSignedIn("Your sign-in gives no checked mail address; ask an admin.")
        try:
            return await self._accounts.named(claims.mail)
        except NotFound:
            if claims.mail.rpartition("@")[2].lower() not in domains:
                raise NotSignedIn(
                    f"There is no account for {claims.mail}; ask an admin to make one."
                ) from None
        name = checked_account_name(claims.mail)
        return await self._accounts.add(name, "user", None, OPERATOR)

    async def _set_password(self, account: Account, password: str, actor: str) -> None:
        hashed = await self._passwords.hash(password)
        await self._change(
            account, "set password", actor, password=hashed, failures=0, locked_until=0.0
        )
        await self._sessions.end_of(account.id)

    async def _change(self, account: Account, action: Action, actor: str, **values: Any) -> None:
        await self._accounts.change(account.id, action, actor, values)

    async def _looked_after(self, user: str, actor: str) -> Account:
        await self._check_admin(actor)
        return await self._accounts.of(user)

    async def _check_admin(self, actor: str) -> None:
        if actor != OPERATOR:
            await self.check_admin(actor)

    async def check_admin(self, user: str) -> None:
        """Check that somebody is an admin now.

        Raises:
            Forbidden: they are not.
        """
        try:
            account = await self._accounts.of(user)
        except NotFound:
            account = None
        if account is None or account.role != "admin" or not account.enabled:
            raise Forbidden("Only an admin may do this; ask one.")

    async def _check_not_last(self, account: Account) -> None:
        if account.role == "admin" and account.enabled and await self._accounts.count("admin") < 2:
            raise InputError(
                f"{account.name!r} is the only admin; make somebody else an admin before."
            )
