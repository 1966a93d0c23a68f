"""PostgreSQL, through asyncpg."""

from typing import Any, TypeVar, cast

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from chatkit.store.transaction import Durability, Operation, Transaction

Result = TypeVar("Result")

POOL = 8


class Postgres:
    """A PostgreSQL database.

    Args:
        url: `postgresql://USER@HOST/NAME`.
    """

    insert = staticmethod(insert)

    def __init__(self, url: URL) -> None:
        self.name = url.render_as_string(hide_password=True)
        self._engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=POOL,
            max_overflow=POOL,
            pool_pre_ping=True,
        )

    async def read(self, operation: Operation[Result]) -> Result:
        """Run an operation that changes nothing; see `Database.read`."""
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            async with connection.begin():
                return await operation(cast(Transaction, connection))

    async def write(self, operation: Operation[Result], durability: Durability) -> Result:
        """Run an operation in a transaction; see `Database.write`."""
        async with self._engine.connect() as connection, connection.begin():
            if durability == "soon":
                await connection.execute(text("SET LOCAL synchronous_commit = off"))
            return await operation(cast(Transaction, connection))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    def passes(self, error: Exception) -> bool:
        """Tell whether it is worth trying again: the database restarts, or others came first."""
        if not isinstance(error, DBAPIError):
            return isinstance(error, OSError)
        return error.connection_invalidated or _is_going_away(error.orig)


def _is_going_away(cause: Any) -> bool:
    """Tell the words for starting up, shutting down, crashing and losing a race.

    Source: PostgreSQL documentation, appendix A, classes 08, 40 and 57P.
    """
    code = str(getattr(cause, "sqlstate", None) or "")
    # The same message was sent twice at once: the second try finds what the first one stored.
    sent_twice = code == "23505" and "nodes_sent_once" in str(cause)
    return sent_twice or code.startswith(("08", "40", "57P")) or "was closed" in str(cause)
