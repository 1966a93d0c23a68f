"""`python -m chatkit users`: who may sign in."""

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from chatkit.cli.opening import opened_shelf
from chatkit.cli.printing import confirm, count, iso, moment, print_json, print_table
from chatkit.errors import InputError

if TYPE_CHECKING:
    from chatkit.identity.account import Account
    from chatkit.shelf import Shelf

Result = TypeVar("Result")
Name = Annotated[str, typer.Argument(help="What they sign in with.")]
FromPipe = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from a pipe, one line.")
]

users = typer.Typer(
    help="Add people who may sign in to the app, and look after their accounts.",
    no_args_is_help=True,
)


@users.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="user or admin.")] = "user",
    elsewhere: Annotated[
        bool,
        typer.Option("--elsewhere", help="No password: they sign in through OpenID Connect."),
    ] = False,
    password_stdin: FromPipe = False,
) -> None:
    """Make an account.

    The name of who signs in elsewhere is their mail address.

    Examples:

      python -m chatkit users add anna --role admin

      python -m chatkit users add bo@example.org --elsewhere

      pass show chatkit/cy | python -m chatkit users add cy --password-stdin
    """
    from chatkit.identity.account import checked_role

    known = checked_role(role)
    password = None if elsewhere else _password(password_stdin)
    made = _with_shelf(lambda shelf: shelf.identity.add(name, known, password))
    typer.echo(f"Added {made.name!r} as {made.role}.")


@users.command("list")
def list_them(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List all accounts.

    Example: python -m chatkit users list
    """
    found = _with_shelf(_all)
    if json:
        print_json([_json(one) for one in found])
    elif not found:
        typer.echo("There are no accounts yet; see `users add`.", err=True)
    else:
        header = ("name", "role", "state", "made", "user")
        print_table(header, [_row(one) for one in sorted(found, key=lambda one: one.name)])


@users.command()
def role(name: Name, role: Annotated[str, typer.Argument(help="user or admin.")]) -> None:
    """Give somebody another role.

    Example: python -m chatkit users role bo admin
    """
    from chatkit.identity.account import checked_role

    known = checked_role(role)

    async def work(shelf: "Shelf") -> None:
        account = await shelf.identity.find(name)
        await shelf.identity.set_role(account.id, known)

    _with_shelf(work)
    typer.echo(f"{name!r} is {known} now.")


@users.command()
def password(name: Name, password_stdin: FromPipe = False) -> None:
    """Give somebody another password; they are signed out everywhere.

    Example: python -m chatkit users password anna
    """
    new = _password(password_stdin)

    async def work(shelf: "Shelf") -> None:
        account = await shelf.identity.find(name)
        await shelf.identity.set_password(account.id, new)

    _with_shelf(work)
    typer.echo(f"{name!r} has another password now.")


@users.command()
def disable(name: Name) -> None:
    """Let somebody sign in no longer; they are signed out everywhere, and nothing is deleted.

    Example: python -m chatkit users disable bo
    """
    _with_shelf(lambda shelf: _set_enabled(shelf, name, False))
    typer.echo(f"{name!r} may not sign in any more.")


@users.command()
def enable(name: Name) -> None:
    """Let somebody sign in again.

    Example: python -m chatkit users enable bo
    """
    _with_shelf(lambda shelf: _set_enabled(shelf, name, True))
    typer.echo(f"{name!r} may sign in.")


@users.command("sign-out")
def sign_out(name: Name) -> None:
    """End all sessions of somebody; pages that are open notice it within seconds.

    Example: python -m chatkit users sign-out bo
    """

    async def work(shelf: "Shelf") -> int:
        account = await shelf.identity.find(name)
        return await shelf.identity.end_sessions(account.id)

    typer.echo(f"Ended {count(_with_shelf(work), 'session')} of {name!r}.")


@users.command()
def delete(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Delete somebody with all that they wrote, for good.

    Example: python -m chatkit users delete bo
    """

    async def find(shelf: "Shelf") -> "tuple[str, int]":
        account = await shelf.identity.check_may_go((await shelf.identity.find(name)).id)
        return account.id, len(await shelf.store.conversations.ids(account.id))

    user, number = _with_shelf(find)
    confirm(f"Delete {name!r} with {count(number, 'conversation')} for good?", yes)
    _with_shelf(lambda shelf: shelf.delete_user(user, "operator"), both_rooms=True)
    typer.echo(f"Deleted {name!r}.")


def _with_shelf(
    work: "Callable[[Shelf], Coroutine[Any, Any, Result]]", *, both_rooms: bool = False
) -> Result:
    from chatkit.background import wait_for

    with opened_shelf(both_rooms=both_rooms) as shelf:
        return wait_for(work(shelf))


async def _all(shelf: "Shelf") -> "list[Account]":
    found: list[Account] = []
    while some := await shelf.identity.accounts(after=found[-1].id if found else ""):
        found += some
    return found


async def _set_enabled(shelf: "Shelf", name: str, enabled: bool) -> None:
    account = await shelf.identity.find(name)
    await shelf.identity.set_enabled(account.id, enabled)


def _password(from_pipe: bool) -> str:
    """Ask for a new password twice, or read it from a pipe; never from the list of programs."""
    if from_pipe:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InputError("Nobody is there to type a password; use --password-stdin with a pipe.")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _row(account: "Account") -> tuple[str, ...]:
    state = "may sign in" if account.enabled else "disabled"
    return account.name, account.role, state, moment(account.created), account.id


def _json(account: "Account") -> dict[str, Any]:
    return {
        "name": account.name,
        "role": account.role,
        "enabled": account.enabled,
        "created": iso(account.created),
        "user": account.id,
    }
