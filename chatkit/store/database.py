"""One database: opens it, runs reads and writes in transactions, and says plainly what failed."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Insert, Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from chatkit.errors import DiskFull, InputError, StoreUnavailable
from chatkit.store.sqlite import Sqlite
from chatkit.store.transaction import Durability, Operation

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

    from chatkit.store.postgres import Postgres

Result = TypeVar("Result")

# A database that restarts is back within some seconds; an operation waits that long.
RETRY_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 4.0)


class Database:
    """A SQLite file or a PostgreSQL database; it belongs to one event loop.

    Args:
        url: `sqlite:///FILE`, `sqlite://` (in memory) or `postgresql://USER@HOST/NAME`.

    Raises:
        InputError: the address cannot be understood.
        StoreUnavailable: the folder of the file cannot be made.
    """

    def __init__(self, url: str) -> None:
        self._backend = _backend(url)
        self.is_sqlite = isinstance(self._backend, Sqlite)
        self.name = self._backend.name

    async def read(self, operation: Operation[Result]) -> Result:
        """Run an operation that changes nothing; it sees one moment of the database.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        return await self._patiently(lambda: self._backend.read(operation))

    async def write(self, operation: Operation[Result], durability: Durability = "disk") -> Result:
        """Run an operation in a transaction; it is done wholly or not at all.

        When the connection breaks the operation is run again, so it must be one that may be
        repeated: new rows have names of their own, which a second time are there already.

        Args:
            operation: what to do.
            durability: `disk` returns when it would survive a power cut, `soon` when it would
                survive the end of this process.

        Raises:
            StoreUnavailable: the database does not answer.
            DiskFull: it has no room; nothing was changed.
        """
        return await self._patiently(lambda: self._backend.write(operation, durability))

    def insert_new(self, table: Table) -> Insert:
        """Insert rows, and pass over those whose names are there already."""
        return self._backend.insert(table).on_conflict_do_nothing()

    def put(self, table: Table) -> Insert:
        """Insert a whole row, or set it where its primary key is there already."""
        return _put(table, self._backend.insert)

    async def forget_remnants(self) -> None:
        """Leave nothing of deleted rows in SQLite's files; PostgreSQL does so in its own time."""
        if isinstance(self._backend, Sqlite):
            await self._backend.forget_remnants()

    async def close(self) -> None:
        """Close every connection."""
        await self._backend.close()

    async def _patiently(self, once: Callable[[], Awaitable[Result]]) -> Result:
        for pause in (*RETRY_SECONDS, None):
            try:
                return await once()
            except NoConnection as error:
                raise StoreUnavailable(
                    f"All connections to the database {self.name} are in use for too long; wait, "
                    "and send again."
                ) from error
            except (DBAPIError, OSError) as error:
                if pause is None or not self._backend.passes(error):
                    raise self._translated(error) from error
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _translated(self, error: Exception) -> Exception:
        cause = error.orig if isinstance(error, DBAPIError) else error
        said = str(cause or error).splitlines()[0].rstrip(".")
        if any(words in said for words in ("disk is full", "No space left", "DiskFull")):
            return DiskFull(
                f"The database {self.name} has no room ({said}); free some space and send again: "
                "nothing of this step was stored."
            )
        if isinstance(error, OperationalError | InterfaceError | OSError) or (
            self._backend.passes(error)
        ):
            return StoreUnavailable(
                f"The database {self.name} does not answer ({said}); check that it runs and "
                "that its address is right (CHATKIT_DATABASE_URL, CHATKIT_KEYS_URL)."
            )
        return error


@cache
def _put(table: Table, insert: "Callable[[Table], sqlite.Insert | postgresql.Insert]") -> Insert:
    keys = [column.name for column in table.primary_key]
    new = insert(table)
    names = [column.name for column in table.columns]
    rest = {name: new.excluded[name] for name in names if name not in keys}
    return new.on_conflict_do_update(index_elements=keys, set_=rest)


def _backend(text: str) -> "Sqlite | Postgres":
    try:
        url = make_url(text)
        kind = url.get_backend_name()
    except ArgumentError:
        kind = ""
    if kind == "sqlite":
        named = url.database and url.database != ":memory:"
        return Sqlite(Path(str(url.database)) if named else None)
    if kind == "postgresql":
        # Only then: it brings SQLAlchemy's asynchronous half, 10 MB.
        from chatkit.store.postgres import Postgres

        return Postgres(url)
    raise InputError(
        "The database address is neither sqlite:///FILE nor postgresql://USER@HOST/NAME; "
        "correct CHATKIT_DATABASE_URL or CHATKIT_KEYS_URL."
    )
