"""`python -m chatkit db`: the form of the database, its backups, and its keys."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from chatkit.cli.opening import LOCAL_USER
from chatkit.cli.printing import confirm, count, moment, print_table

if TYPE_CHECKING:
    from chatkit.store.backup_file import Manifest
    from chatkit.store.database import Database

db = typer.Typer(
    help="Upgrade, back up and restore the database, and rotate its keys.", no_args_is_help=True
)


class _Found(NamedTuple):
    """Which database it is, and its version; None when it is empty."""

    name: str
    version: str | None

    def __str__(self) -> str:
        return f"{self.name}: {self.version or 'empty'}"


@db.command()
def upgrade(
    to: Annotated[str, typer.Option(help="The version; the newest when left out.")] = "head",
) -> None:
    """Bring the database to this program's form. Every start does so by itself.

    Example: python -m chatkit db upgrade
    """
    from chatkit.background import wait_for
    from chatkit.store import migrate

    typer.echo(str(wait_for(_stepped(lambda database: migrate.upgrade(database, to)))))


@db.command()
def downgrade(
    to: Annotated[str, typer.Argument(help="The version; base leaves an empty database.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take the database back to an older form; what that form has no place for is lost.

    Stop all services first: they would bring it forward again.

    Example: python -m chatkit db downgrade base
    """
    from chatkit.background import wait_for
    from chatkit.store import migrate

    lost = "everything in it" if to == "base" else "what that version has no place for"
    confirm(f"Take the database back to {to}, and lose {lost}?", yes)
    typer.echo(str(wait_for(_stepped(lambda database: migrate.downgrade(database, to)))))


@db.command()
def versions() -> None:
    """Tell which versions of the database this program knows, and which one is there.

    Example: python -m chatkit db versions
    """
    from chatkit.background import wait_for
    from chatkit.store import migrate

    found = wait_for(_stepped(None))
    known = migrate.known_versions()
    rows = [(version, "present" if version == found.version else "") for version in known]
    if found.version is not None and found.version not in known:
        rows.append((found.version, "present, and newer than this program"))
    print_table(("version", ""), rows)
    typer.echo(str(found))


@db.command()
def backup(file: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Write one moment of the whole database to a file, while services go on.

    The keys are not in it: it can be read only together with the key store and the master key,
    which are to be copied to another place. Deleted conversations stay deleted when it is
    restored.

    Example: python -m chatkit db backup chatkit-2026-11-26.zip
    """
    from chatkit.background import wait_for

    made = wait_for(_backup(file))
    rows = [(name, f"{part.rows:,}") for name, part in made.tables.items()]
    print_table(("table", "rows"), rows)
    typer.echo(f"Wrote {file}, {file.stat().st_size:,} bytes.")
    if made.encrypted:
        typer.echo("It holds no keys: keep copies of the key store and the master key elsewhere.")
    else:
        typer.echo("It is NOT encrypted, since CHATKIT_ENCRYPTION is off: keep it safe.")


@db.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable", help="Leave out conversations whose keys the key store lacks."
        ),
    ] = False,
) -> None:
    """Put a backup into the empty database that CHATKIT_DATABASE_URL names, all or nothing.

    It may come from the other kind of database. What was deleted since it was made does not come
    back.

    Example: CHATKIT_DATABASE_URL=postgresql://me@host/new python -m chatkit db restore FILE
    """
    from chatkit.background import wait_for
    from chatkit.settings import settings
    from chatkit.store.restore import restore as put_back

    done = wait_for(put_back(settings(), file, LOCAL_USER, skip_unreadable=skip_unreadable))
    rows = [(name, f"{part.rows:,}") for name, part in done.manifest.tables.items()]
    print_table(("table", "rows"), rows)
    typer.echo(f"Restored the backup of {moment(done.manifest.made)}.")
    if done.skipped:
        typer.echo(f"Left out {count(done.skipped, 'conversation')} without a key.")
    if done.erased:
        were = "was" if done.erased == 1 else "were"
        typer.echo(f"Left out {count(done.erased, 'conversation')} that {were} deleted since.")


@db.command("rotate-keys")
def rotate_keys(
    new_key_from_file: Annotated[
        Path | None, typer.Option(help="A file with 64 hexadecimal digits; else one is made.")
    ] = None,
) -> None:
    """Put a new master key in the old one's place, and give every user a new key under it.

    Texts stay as they are. Running services on this machine go on working; other machines need a
    copy of the new key file. Copies of the key store from before need the old master key.

    Examples:

      python -m chatkit db rotate-keys

      python -m chatkit db rotate-keys --new-key-from-file next.key
    """
    from chatkit.background import wait_for

    users, in_environment = wait_for(_rotate(new_key_from_file))
    typer.echo(f"Rotated the keys of {count(users, 'user')}.")
    if in_environment:
        typer.echo(
            f"Now set CHATKIT_MASTER_KEY to what {new_key_from_file} holds, and restart all "
            "services: with the old one they can open nothing new."
        )


async def _stepped(step: "Callable[[Database], Awaitable[None]] | None") -> _Found:
    """Take a step with the database that the environment names, and tell where it is then."""
    from chatkit.settings import settings
    from chatkit.store.database import Database
    from chatkit.store.migrate import version

    database = Database(settings().database)
    try:
        if step is not None:
            await step(database)
        return _Found(database.name, await version(database))
    finally:
        await database.close()


async def _backup(file: Path) -> "Manifest":
    from chatkit.settings import settings
    from chatkit.store.backup import back_up
    from chatkit.store.opening import open_store

    store = await open_store(settings())
    try:
        return await back_up(store, file, LOCAL_USER)
    finally:
        await store.close()


async def _rotate(file: Path | None) -> tuple[int, bool]:
    from chatkit.settings import settings
    from chatkit.store.opening import open_store
    from chatkit.store.rotation import key_from_file, rotate_keys

    new = key_from_file(file) if file else None
    store = await open_store(settings())
    try:
        users = await rotate_keys(store, new, LOCAL_USER)
        return users, store.keys.key_from_environment
    finally:
        await store.close()
