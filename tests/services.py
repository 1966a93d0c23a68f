"""A real PostgreSQL and a real Redis on free ports of 127.0.0.1, started for the tests.

`install_services.sh` finds or installs the programs.
"""

import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from service import HOST, PATIENCE_SECONDS, Service

DATABASES = 64


class Postgres(Service):
    """A PostgreSQL; every database of it is reached as the user `chatkit`, without a password.

    Args:
        fsync: whether commits reach a disk; tests of what survives a killed server do not need it,
            since the system still has what the server wrote.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        self._programs = _postgres_programs()
        super().__init__(on_disk=fsync)
        self._fsync = fsync
        self._numbers = count(1)

    def start(self) -> None:
        """Start it; the first time it is set up, which takes about a second."""
        if not (self.directory / "PG_VERSION").exists():
            self._initialise()
        super().start()

    @property
    def url(self) -> str:
        """The address of an empty database that all share; see `new_database`."""
        return self._url("postgres")

    def new_database(self, like: str | None = None) -> str:
        """Make a fresh database in some tens of milliseconds.

        Args:
            like: the address of a database to copy, to which nobody may be connected; None makes
                an empty one.

        Returns:
            Its address for SQLAlchemy, `postgresql+asyncpg://…`.
        """
        name = f"test_{next(self._numbers)}"
        source = urlsplit(like).path.strip("/") if like else "template0"
        self.run_sql(f"CREATE DATABASE {name} TEMPLATE {source}")
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.run_sql(f"DROP DATABASE {urlsplit(url).path.strip('/')} WITH (FORCE)")

    def run_sql(self, statement: str, url: str | None = None) -> str:
        """Run a statement as the superuser, and give what `psql` printed: rows, tabs between.

        Args:
            statement: one SQL statement.
            url: the database to run it in; None is `self.url`.
        """
        address = (url or self.url).replace("+asyncpg", "")
        options = ["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"]
        command = [str(self._programs / "psql"), *options, "-d", address, "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        if done.returncode:
            raise RuntimeError(f"{statement}: {done.stderr.strip()}")
        return done.stdout.strip("\n")

    @property
    def _ending(self) -> signal.Signals:
        # PostgreSQL's "fast" shutdown: SIGTERM would wait until every client has gone.
        return signal.SIGINT

    @property
    def _giving_up(self) -> signal.Signals:
        # At once: what is about to be removed need not be written first.
        return signal.SIGQUIT

    def _url(self, database: str) -> str:
        return f"postgresql+asyncpg://chatkit@{HOST}:{self.port}/{database}"

    def _initialise(self) -> None:
        options = ["--username=chatkit", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        command = [str(self._programs / "initdb"), *options, "--no-sync", "-D", str(self.directory)]
        with self.log.open("ab") as log:
            code = self._run(command, log=log).wait(PATIENCE_SECONDS)
        if code:
            raise RuntimeError(f"initdb failed:\n{self._log_tail()}")

    def _command(self) -> list[str]:
        safety = "on" if self._fsync else "off"
        settings = {
            "port": self.port,
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "fsync": safety,
            "full_page_writes": safety,
            "max_connections": 200,
            "shared_buffers": "64MB",
            "max_wal_size": "128MB",
            "jit": "off",
        }
        pairs = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self.directory), *pairs]

    def _answers(self) -> bool:
        command = [str(self._programs / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(command, timeout=PATIENCE_SECONDS).returncode == 0

    def _unprivileged(self) -> pwd.struct_passwd | None:
        """PostgreSQL refuses to run as root."""
        try:
            return pwd.getpwnam("postgres")
        except KeyError:
            return pwd.getpwnam("nobody")


class Redis(Service):
    """A Redis.

    Args:
        appendonly: whether it writes what it holds to `directory`, on a disk, and so has it after a
            restart; otherwise a restart loses everything.
    """

    def __init__(self, *, appendonly: bool = False) -> None:
        self._program = _redis_program()
        super().__init__(on_disk=appendonly)
        self._appendonly = appendonly
        self._numbers = count(1)

    @property
    def url(self) -> str:
        """The address of database 0, that all share; see `new_database`."""
        return self._url(0)

    def new_database(self) -> str:
        """Give the address of an emptied database, `redis://…/NUMBER`; there are 63 in turn."""
        number = 1 + (next(self._numbers) - 1) % (DATABASES - 1)
        said = self.ask(f"SELECT {number}", "FLUSHDB")
        if said != ["+OK", "+OK"]:
            raise RuntimeError(f"Redis did not empty database {number}: {said}")
        return self._url(number)

    def ask(self, *commands: str) -> list[str]:
        """Send commands whose answers are one line each, and give those lines."""
        with socket.create_connection((HOST, self.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
            with connection.makefile("r", encoding="utf-8", newline="\r\n") as answers:
                return [answers.readline().rstrip("\r\n") for _ in commands]

    def _url(self, number: int) -> str:
        return f"redis://{HOST}:{self.port}/{number}"

    def _command(self) -> list[str]:
        settings = {
            "port": self.port,
            "bind": HOST,
            "dir": self.directory,
            "databases": DATABASES,
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
        }
        pairs = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        return [self._program, *pairs]

    def _answers(self) -> bool:
        try:
            return self.ask("PING") == ["+PONG"]
        except OSError:
            return False


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that all tests share; a test that stops one makes its own."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis that all tests share; a test that stops one makes its own."""
    with Redis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """The address of an empty Redis database."""
    return redis_server.new_database()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The address of an empty PostgreSQL database."""
    address = postgres.new_database()
    yield address
    postgres.drop_database(address)


def _postgres_programs() -> Path:
    folders = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(folders, key=lambda path: float(path.parts[-3]), default=None)
    found = newest or shutil.which("postgres")
    if found is None:
        raise RuntimeError("PostgreSQL is not installed; run `sh tests/install_services.sh`.")
    return Path(found).resolve().parent


def _redis_program() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise RuntimeError("Redis is not installed; run `sh tests/install_services.sh`.")
    return found
