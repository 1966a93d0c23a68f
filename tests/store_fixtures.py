"""The fixtures of the store's tests; a module takes them with `pytest_plugins`."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from services import Postgres
from stores import opened_store

from chatkit.settings import settings
from chatkit.store.database import Database
from chatkit.store.migrate import upgrade
from chatkit.store.opening import Store


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def kind(request: pytest.FixtureRequest) -> str:
    """Run a test on SQLite, and on PostgreSQL."""
    return str(request.param)


@pytest.fixture
def empty_database(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> str:
    """The address of an empty database, which the environment names."""
    if kind == "postgres":
        monkeypatch.setenv("CHATKIT_DATABASE_URL", request.getfixturevalue("postgres_url"))
    return settings().database


@pytest.fixture
def database(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> str:
    """The address of a database with empty tables, which the environment names."""
    if kind == "postgres":
        address = request.getfixturevalue("postgres_copy")
        monkeypatch.setenv("CHATKIT_DATABASE_URL", address)
    else:
        own_home.mkdir()
        file = request.getfixturevalue("sqlite_with_tables")
        shutil.copy(file, urlsplit(settings().database).path)
    return settings().database


@pytest.fixture
def postgres_copy(postgres: Postgres, postgres_with_tables: str) -> Iterator[str]:
    """The address of a PostgreSQL database with empty tables."""
    address = postgres.new_database(like=postgres_with_tables)
    yield address
    postgres.drop_database(address)


@pytest.fixture(scope="session")
def sqlite_with_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file to copy, which takes less time than making the tables."""
    file = tmp_path_factory.mktemp("tables") / "chatkit.db"
    asyncio.run(_make_tables(f"sqlite:///{file}"))
    return file


@pytest.fixture(scope="session")
def postgres_with_tables(postgres: Postgres) -> str:
    """A PostgreSQL database to copy."""
    address = postgres.new_database()
    asyncio.run(_make_tables(address))
    return address


@pytest.fixture
async def store(database: str, anyio_backend: str) -> AsyncIterator[Store]:
    """An open store."""
    async with opened_store() as store:
        yield store


async def _make_tables(address: str) -> None:
    database = Database(address)
    await upgrade(database)
    await database.close()
