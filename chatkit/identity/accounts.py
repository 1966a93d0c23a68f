"""The rows of accounts: names are sealed, and found by a digest under a secret key."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select, update

from chatkit.errors import InputError, NotFound
from chatkit.identity.account import Account, Role, same_name
from chatkit.identity.lockout import wait_after
from chatkit.store.audit import Action
from chatkit.store.opening import Store
from chatkit.store.schema import accounts, users
from chatkit.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is needed to check a password.

    Args:
        id: whose.
        hashed: of the password; None without one.
        locked_until: when the next password is taken, in seconds since 1970; 0 is at once.
    """

    id: str
    hashed: str | None
    locked_until: float


class Accounts:
    """Makes, finds and changes accounts.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, name: str, role: Role, hashed: str | None, actor: str) -> Account:
        """Make an account; its user is new.

        Raises:
            InputError: somebody has that name.
        """
        id, now = f"person:{secrets.token_hex(12)}", time.time()
        row = {
            "user_id": id,
            "name_digest": self._digest(name),
            "sealed_name": (await self._store.keys.of_user(id)).close(name, f"account:{id}"),
            "role": role,
            "password": hashed,
            "enabled": True,
            "failures": 0,
            "locked_until": 0.0,
            "created": now,
        }

        async def work(connection: Transaction) -> bool:
            same = select(accounts.c.user_id).where(accounts.c.name_digest == row["name_digest"])
            there = (await connection.execute(same)).scalar()
            if there is not None:
                return bool(there == id)
            await connection.execute(self._store.database.insert_new(users), _user(id, now))
            await connection.execute(self._store.database.insert_new(accounts), row)
            await self._store.audit.note_within(connection, actor, "add account", id)
            return True

        if not await self._store.database.write(work):
            raise InputError(f"There is an account named {name!r} already; choose another name.")
        return await self.of(id)

    async def of(self, id: str) -> Account:
        """Find the account of a user.

        Raises:
            NotFound: there is none.
        """
        found = await self._read(select(accounts).where(accounts.c.user_id == id))
        if not found:
            raise NotFound(f"There is no account {id!r}; it may have been deleted.")
        return found[0]

    async def named(self, name: str) -> Account:
        """Find the account that is signed in to with a name.

        Raises:
            NotFound: there is none.
        """
        found = await self._read(
            select(accounts).where(accounts.c.name_digest == self._digest(name))
        )
        if not found:
            raise NotFound(f"There is no account named {name!r}.")
        return found[0]

    async def known_elsewhere(self, external: str) -> Account | None:
        """Find the account of somebody who signs in elsewhere, by who they are there."""
        found = await self._read(
            select(accounts).where(accounts.c.external == self._store.keys.pseudonym(external))
        )
        return found[0] if found else None

    async def page(self, limit: int, after: str = "") -> tuple[Account, ...]:
        """List accounts in the order of their names for machines."""
        query = select(accounts).where(accounts.c.user_id > after)
        return await self._read(query.order_by(accounts.c.user_id).limit(limit))

    async def count(self, role: Role | None = None) -> int:
        """Tell how many accounts may sign in."""
        query = select(func.count()).select_from(accounts).where(accounts.c.enabled)
        if role is not None:
            query = query.where(accounts.c.role == role)

        async def ask(connection: Transaction) -> int:
            return int((await connection.execute(query)).scalar_one())

        return await self._store.database.read(ask)

    async def change(self, id: str, action: Action, actor: str, values: dict[str, Any]) -> None:
        """Set columns of an account, and note it."""

        async def work(connection: Transaction) -> None:
            await connection.execute(
                update(accounts).where(accounts.c.user_id == id).values(**values)
            )
            await self._store.audit.note_within(connection, actor, action, id)

        await self._store.database.write(work)

    async def forgive(self, id: str, hashed: str) -> None:
        """Forget wrong passwords after a right one, and keep its hash."""

        async def work(connection: Transaction) -> None:
            change = update(accounts).where(accounts.c.user_id == id)
            forgiven = {"failures": 0, "locked_until": 0.0, "password": hashed}
            await connection.execute(change.values(**forgiven))

        await self._store.database.write(work)

    async def bind(self, id: str, external: str) -> bool:
        """Note who somebody is elsewhere, once and for all.

        Returns: False when the account belongs to another person there.
        """
        digest = self._store.keys.pseudonym(external)
        free = (accounts.c.external.is_(None)) | (accounts.c.external == digest)

        async def work(connection: Transaction) -> bool:
            change = update(accounts).where(accounts.c.user_id == id, free)
            if not (await connection.execute(change.values(external=digest))).rowcount:
                return False
            await self._store.audit.note_within(connection, id, "bind account", id)
            return True

        return await self._store.database.write(work)

    async def take_try(self, name: str, now: float) -> Credentials | None:
        """Count a try to sign in before its password is looked at, so that none goes uncounted.

        Returns: what to check it with; None when nobody may sign in with that name.
        """

        async def work(connection: Transaction) -> Credentials | None:
            query = select(accounts).where(accounts.c.name_digest == self._digest(name))
            row = (await connection.execute(query.with_for_update())).first()
            if row is None or not row.enabled:
                return None
            if row.locked_until <= now:
                failures = row.failures + 1
                counted = {"failures": failures, "locked_until": now + wait_after(failures)}
                change = update(accounts).where(accounts.c.user_id == row.user_id)
                await connection.execute(change.values(**counted))
                return Credentials(row.user_id, row.password, 0.0)
            return Credentials(row.user_id, row.password, row.locked_until)

        return await self._store.database.write(work)

    def _digest(self, name: str) -> str:
        return self._store.keys.pseudonym(f"account named {same_name(name)}")

    async def _read(self, query: Select[Any]) -> tuple[Account, ...]:
        async def ask(connection: Transaction) -> Sequence[Any]:
            return list(await connection.execute(query))

        return tuple([await self._account(row) for row in await self._store.database.read(ask)])

    async def _account(self, row: Any) -> Account:
        seal = await self._store.keys.of_user(row.user_id)
        return Account(
            id=row.user_id,
            name=seal.open(row.sealed_name, f"account:{row.user_id}"),
            role=row.role,
            enabled=row.enabled,
            created=row.created,
            has_password=row.password is not None,
        )


def _user(id: str, now: float) -> dict[str, Any]:
    return {"id": id, "created": now}
