"""SQLite: one writer and several readers, each on a thread."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from chatkit.errors import DatabaseVersion, StoreUnavailable
from chatkit.store.transaction import Durability, Operation

Result = TypeVar("Result")

BUSY_SECONDS = 10
READERS = 4
CHECKPOINT_SECONDS = 5.0


class Sqlite:
    """A SQLite file, or a database in memory.

    A whole operation runs on a thread. Drivers that make each statement wait for a thread take
    several times as long, since a statement here takes less than the way there.

    Args:
        file: where it is; None keeps it in memory.

    Raises:
        StoreUnavailable: the folder cannot be made.
    """

    insert = staticmethod(insert)

    def __init__(self, file: Path | None) -> None:
        self.name = str(file) if file else "in memory"
        self._file = file
        self._engine = _engine(file)
        # SQLite has one writer at a time: a queue is fair, and nobody finds it locked.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")
        self._closed = False

    async def read(self, operation: Operation[Result]) -> Result:
        """Run an operation that changes nothing; see `Database.read`."""
        threads = self._readers if self._file else self._writer
        return await self._on(threads, lambda: self._run(operation, "BEGIN"))

    async def write(self, operation: Operation[Result], durability: Durability) -> Result:
        """Run an operation in a transaction; see `Database.write`."""
        if durability == "remake":
            return await self._on(self._writer, lambda: self._remake(operation))
        synchronous = "FULL" if durability == "disk" else "NORMAL"
        # A writer that begins as a reader may find at its first write that it cannot become one.
        begin = "BEGIN IMMEDIATE"
        return await self._on(self._writer, lambda: self._run(operation, begin, synchronous))

    async def forget_remnants(self) -> None:
        """Empty the write-ahead log, which still holds what pages held before."""
        if self._file is not None:
            await self._on(self._writer, self._checkpoint)

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        await asyncio.to_thread(self._shut_down)

    def passes(self, error: Exception) -> bool:
        """Tell whether it is worth trying again: another process writes for long."""
        return isinstance(error, DBAPIError) and "locked" in str(error.orig)

    async def _on(self, threads: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        if self._closed:
            raise StoreUnavailable(
                f"The database {self.name} was closed, since this process ends; ask again when it "
                "has started anew."
            )
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _run(
        self, operation: Operation[Result], begin: str, synchronous: str | None = None
    ) -> Result:
        with self._engine.connect() as connection, _transaction(connection, begin, synchronous):
            result: Result = _finished(operation(_Direct(connection)))
            return result

    def _remake(self, operation: Operation[Result]) -> Result:
        """Run an operation without foreign keys, and see that they hold at its end."""
        with (
            self._engine.connect() as connection,
            _without_foreign_keys(connection),
            _transaction(connection, "BEGIN IMMEDIATE", "FULL"),
        ):
            result: Result = _finished(operation(_Direct(connection)))
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
            if broken is not None:
                raise DatabaseVersion(
                    f"A step to another version of {self.name} left rows of {broken[0]} without "
                    "what they belong to, so nothing was changed; report this."
                )
            return result

    def _checkpoint(self) -> None:
        deadline = time.monotonic() + CHECKPOINT_SECONDS
        with self._engine.connect() as connection:
            while connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        f"The database {self.name} is read by others all the time, so what was "
                        "deleted is still in its write-ahead log; delete again in a quiet moment."
                    )
                time.sleep(0.05)

    def _shut_down(self) -> None:
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self._engine.dispose()


class _Direct:
    """A transaction whose statements run at once, where they are awaited."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        return self._connection.execute(statement, parameters)

    async def run_sync(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(self._connection, *arguments)


def _finished(operation: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        operation.send(None)
    except StopIteration as end:
        return end.value
    operation.close()
    raise AssertionError("an operation on the database awaited something else")


@contextlib.contextmanager
def _without_foreign_keys(connection: Connection) -> Iterator[None]:
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")


@contextlib.contextmanager
def _transaction(connection: Connection, begin: str, synchronous: str | None) -> Iterator[None]:
    if synchronous and connection.info.get("synchronous") != synchronous:
        connection.exec_driver_sql(f"PRAGMA synchronous = {synchronous}")
        connection.info["synchronous"] = synchronous
    connection.exec_driver_sql(begin)
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        # A full disk may have ended the transaction already.
        with contextlib.suppress(DBAPIError):
            connection.exec_driver_sql("ROLLBACK")
        raise


def _engine(file: Path | None) -> Engine:
    if file is None:
        engine = create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
    else:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"The folder {file.parent} cannot be made ({error.strerror}); choose another with "
                "CHATKIT_HOME."
            ) from None
        engine = create_engine(f"sqlite:///{file}", pool_size=READERS + 1)
    event.listen(engine, "connect", _prepare)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _prepare(connection: sqlite3.Connection, _: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        "journal_mode = WAL",
        "foreign_keys = ON",
        "secure_delete = ON",
        "cache_size = -16000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
