"""Brings a database to this program's form, or back."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from chatkit.errors import DatabaseVersion
from chatkit.store.database import Database
from chatkit.store.schema import SQLITE_AUDIT, SQLITE_SEARCH, metadata, node_text
from chatkit.store.transaction import Transaction

if TYPE_CHECKING:
    from alembic.config import Config

# The newest step in `migrations/versions`; asked at every start, so alembic is not loaded for it.
NEWEST = "0003"
_LOCK = 6_241_007


async def ready(database: Database) -> None:
    """Make a new or older database ready; nothing when it is.

    Raises:
        DatabaseVersion: a newer program made it.
    """
    found = await version(database)
    if found != NEWEST:
        await upgrade(database)


async def make_in_memory(database: Database) -> None:
    """Give an empty database in memory this program's form at once: no step has to be kept."""

    async def make(connection: Transaction) -> None:
        tables = [table for table in metadata.sorted_tables if table is not node_text]
        await connection.run_sync(metadata.create_all, tables)
        for statement in (*SQLITE_SEARCH, *SQLITE_AUDIT):
            await connection.execute(text(statement))

    await database.write(make)


async def version(database: Database) -> str | None:
    """Give the version of a database, None when it is empty."""

    async def ask(connection: Transaction) -> str | None:
        found: str | None = await connection.run_sync(_version)
        return found

    return await database.read(ask)


async def upgrade(database: Database, to: str = "head") -> None:
    """Take the steps forward that are missing, each in one transaction.

    Raises:
        DatabaseVersion: a newer program made it.
    """
    from alembic import command

    await _step(database, lambda config: command.upgrade(config, to))


async def downgrade(database: Database, to: str) -> None:
    """Take steps back.

    Args:
        to: the version to reach; `base` leaves an empty database.

    Raises:
        DatabaseVersion: there is no such version, or a newer program made the database.
    """
    from alembic import command

    await _step(database, lambda config: command.downgrade(config, to))


async def _step(database: Database, go: "Callable[[Config], None]") -> None:
    async def work(connection: Transaction) -> None:
        if not database.is_sqlite:
            # Two processes that start together: one goes, the other finds it done.
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        await connection.run_sync(_go, database.name, go)

    await database.write(work, "remake")


def _go(connection: Connection, name: str, go: "Callable[[Config], None]") -> None:
    from alembic.util import CommandError

    _refuse_newer(connection, name)
    try:
        go(_config(connection))
    except CommandError as error:
        raise DatabaseVersion(
            f"The database {name} cannot be brought there ({error}); see "
            "`python -m chatkit db versions` for what there is."
        ) from None


def _refuse_newer(connection: Connection, name: str) -> None:
    found = _version(connection)
    if found is not None and found not in known_versions():
        raise DatabaseVersion(
            f"The database {name} has version {found} and this program knows up to {NEWEST}; "
            "update chatkit, or restore the backup made before that update."
        )


def known_versions() -> tuple[str, ...]:
    """Name the versions that this program can go to, oldest first."""
    folder = Path(__file__).parent / "migrations" / "versions"
    return tuple(sorted(file.name[1:5] for file in folder.glob("v[0-9][0-9][0-9][0-9]_*.py")))


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
