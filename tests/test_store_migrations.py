"""The form of the database: made, changed and taken back, with data in it and interrupted."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from scripted_service import USER
from sqlalchemy import inspect
from sqlalchemy import text as sql
from sqlalchemy.engine import Connection
from stores import all_rows, begun, chain, opened_store, run_together, started, texts

from chatkit.errors import DatabaseVersion
from chatkit.settings import settings
from chatkit.store import migrate
from chatkit.store.database import Database
from chatkit.store.records import Feedback
from chatkit.store.schema import metadata

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

FOLDER = Path(migrate.__file__).parent / "migrations"
# What the next version of the program may bring: a column more, and a table made anew around it.
NEXT = """
import os, signal
import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade():
    op.create_table("colours", sa.Column("id", sa.String(32), primary_key=True))
    with op.batch_alter_table("conversations", recreate="auto") as table:
        table.add_column(sa.Column("colour", sa.String(8), server_default="grey"))
        table.alter_column("titled_by", existing_type=sa.String(8), type_=sa.String(16))
    {halfway}
    op.create_index("conversations_by_colour", "conversations", ["colour"])


def downgrade():
    op.drop_index("conversations_by_colour", "conversations")
    with op.batch_alter_table("conversations", recreate="auto") as table:
        table.drop_column("colour")
        table.alter_column("titled_by", existing_type=sa.String(16), type_=sa.String(8))
    {halfway}
    op.drop_table("colours")
"""
OPEN = """
import asyncio, sys
from pathlib import Path
from chatkit.settings import settings
from chatkit.settings import settings
from chatkit.store import migrate
from chatkit.store.conversations import NewConversation
from chatkit.store.opening import open_store
from chatkit.store.records import ConversationSettings

async def main(place, newest):
    if place:
        migrate.__file__, migrate.NEWEST = place, newest
    print("ready", flush=True)
    sys.stdin.readline()
    store = await open_store(settings())
    print(await store.conversations.begin("ada", NewConversation(ConversationSettings())))
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Become the program's next version, whose step stops half-way where that is asked for."""

    def become(halfway: str = "pass") -> str:
        there = tmp_path / "next" / "migrations"
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(FOLDER, there, ignore=shutil.ignore_patterns("__pycache__"))
        (there / "versions" / "v0004_next.py").write_text(NEXT.format(halfway=halfway))
        place = str(there.parent / "migrate.py")
        monkeypatch.setattr(migrate, "__file__", place)
        monkeypatch.setattr(migrate, "NEWEST", "0004")
        return place

    return become


async def with_database(address: str, work: Callable[[Database], Any]) -> Any:
    """Do something with a database that no store has opened."""
    database = Database(address)
    try:
        return await work(database)
    finally:
        await database.close()


async def asked(address: str, question: Callable[[Connection], Any]) -> Any:
    """Ask something of a synchronous connection."""

    async def ask(connection: Any) -> Any:
        return await connection.run_sync(question)

    return await with_database(address, lambda database: database.read(ask))


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def differences(connection: Connection) -> list[Any]:
    """Name what differs from `schema.metadata`, but for the full-text index."""
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    found = [str(change) for change in compare_metadata(context, metadata)]
    return [change for change in found if "node_text" not in change]


def form(connection: Connection) -> dict[str, Any]:
    """Give the columns and keys of each table in SQLite, and the texts of indexes and triggers."""
    inspector = inspect(connection)
    found: dict[str, Any] = {}
    for name in inspector.get_table_names():
        columns = [{**one, "type": str(one["type"])} for one in inspector.get_columns(name)]
        keys = sorted(map(str, inspector.get_foreign_keys(name)))
        once = sorted(map(str, inspector.get_unique_constraints(name)))
        found[name] = (columns, inspector.get_pk_constraint(name), keys, once)
    written = (
        "SELECT name, sql FROM sqlite_master "
        "WHERE type IN ('trigger', 'index') OR sql LIKE '%VIRTUAL%'"
    )
    return found | dict(connection.execute(sql(written)).all())


async def filled() -> dict[str, list[tuple[Any, ...]]]:
    """Fill a store with some of everything, and give all its rows."""
    async with opened_store() as store:
        conversation = await begun(store, title="tides", system="Be brief.")
        names = await chain(store, conversation, ["one", "two", "three"])
        await store.opinions.give(USER, conversation, names[1], Feedback("up", (), "good"))
        await store.opinions.prefer(USER, {"tone": "dry"})
        await store.audit.note(USER, "export", conversation)
        return await all_rows(store)


async def test_an_upgrade_from_nothing_is_what_the_schema_says(empty_database: str) -> None:
    await with_database(empty_database, migrate.upgrade)
    assert await asked(empty_database, differences) == []


async def test_a_database_in_memory_is_what_an_upgrade_makes() -> None:
    async def made(make: Callable[[Database], Any]) -> dict[str, Any]:
        async def prepared(database: Database) -> dict[str, Any]:
            await make(database)
            return await database.read(lambda it: it.run_sync(form))

        return await with_database("sqlite://", prepared)

    upgraded = await made(migrate.upgrade)
    expected = {name: it for name, it in upgraded.items() if "alembic" not in name}
    assert await made(migrate.make_in_memory) == expected


@pytest.mark.lengthy
async def test_the_way_back_leaves_an_empty_database(empty_database: str) -> None:
    await filled()
    await with_database(empty_database, lambda it: migrate.downgrade(it, "base"))
    assert await asked(empty_database, tables) <= {"alembic_version"}
    await with_database(empty_database, migrate.upgrade)
    assert await asked(empty_database, differences) == []
    async with opened_store() as store:
        assert await store.conversations.page(USER, 9) == ()


@pytest.mark.lengthy
async def test_data_stays_on_the_way_to_the_next_version_and_back(
    empty_database: str, next_version: Callable[..., str]
) -> None:
    rows = await filled()
    before = await asked(empty_database, everything)
    next_version()
    async with opened_store() as store:
        assert await all_rows(store) != rows
        (found,) = await store.conversations.page(USER, 9)
        assert await texts(store, found.id, found.head) == ["one", "two", "three"]
    colour = sql("SELECT colour FROM conversations")
    assert await asked(empty_database, lambda it: it.execute(colour).scalars().all()) == ["grey"]
    await with_database(empty_database, lambda it: migrate.downgrade(it, "0003"))
    assert await asked(empty_database, everything) == before


@pytest.mark.lengthy
async def test_a_step_that_would_leave_orphans_is_refused(
    own_home: Path, next_version: Callable[..., str]
) -> None:
    await filled()
    address = settings().database
    before = await asked(address, everything)
    next_version("op.execute('DELETE FROM conversations')")
    with pytest.raises(DatabaseVersion, match="without what they belong to"):
        await with_database(address, migrate.upgrade)
    assert await asked(address, everything) == before


@pytest.mark.lengthy
@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_step_that_fails_half_way_changes_nothing(
    empty_database: str, next_version: Callable[..., str], way: str
) -> None:
    await filled()
    if way == "down":
        next_version()
        await with_database(empty_database, migrate.upgrade)
    before = await asked(empty_database, everything)
    next_version("raise RuntimeError('half-way')")
    step = migrate.upgrade if way == "up" else lambda it: migrate.downgrade(it, "0003")
    with pytest.raises(RuntimeError, match="half-way"):
        await with_database(empty_database, step)
    assert await asked(empty_database, everything) == before
    next_version()
    await with_database(empty_database, step)
    assert ("colours" in await asked(empty_database, tables)) == (way == "up")


@pytest.mark.lengthy
async def test_a_process_killed_half_way_leaves_the_old_version_and_the_next_start_finishes(
    empty_database: str, next_version: Callable[..., str]
) -> None:
    await filled()
    before = await asked(empty_database, everything)
    place = next_version("os.kill(os.getpid(), signal.SIGKILL)")
    process = started(OPEN, place, "0004")
    process.communicate("go\n")
    assert process.returncode == -signal.SIGKILL
    assert await asked(empty_database, everything) == before
    next_version()
    async with opened_store() as store:
        (found,) = await store.conversations.page(USER, 9)
        assert await texts(store, found.id, found.head) == ["one", "two", "three"]
    assert "colours" in await asked(empty_database, tables)


@pytest.mark.lengthy
async def test_a_database_of_a_newer_version_is_refused_and_unchanged(empty_database: str) -> None:
    await filled()

    async def age(it: Database) -> None:
        async def work(connection: Any) -> None:
            await connection.execute(sql("UPDATE alembic_version SET version_num = '0999'"))

        await it.write(work)

    await with_database(empty_database, age)
    before = await asked(empty_database, everything)
    with pytest.raises(DatabaseVersion, match=r"version 0999 .* up to 0003; update chatkit"):
        async with opened_store():
            pass
    for step in (migrate.upgrade, lambda it: migrate.downgrade(it, "base")):
        with pytest.raises(DatabaseVersion, match="0999"):
            await with_database(empty_database, step)
    assert await asked(empty_database, everything) == before


async def test_a_version_that_is_not_known_is_refused(empty_database: str) -> None:
    await filled()
    before = await asked(empty_database, everything)
    with pytest.raises(DatabaseVersion, match="cannot be brought there"):
        await with_database(empty_database, lambda it: migrate.downgrade(it, "0777"))
    assert await asked(empty_database, everything) == before


@pytest.mark.slow
@pytest.mark.lengthy
async def test_two_processes_that_start_at_once_both_work(empty_database: str) -> None:
    names = {name for said in run_together(OPEN, "", "") for name in said}
    async with opened_store() as store:
        assert set(await store.conversations.ids(USER)) == names and len(names) == 2


def everything(connection: Connection) -> dict[str, Any]:
    """Give every table, with its columns, indexes and rows."""
    found: dict[str, Any] = {}
    inspector = inspect(connection)
    for name in sorted(inspector.get_table_names()):
        rows = connection.execute(sql(f"SELECT * FROM {name}")).all()
        columns = [str((one["name"], one["type"])) for one in inspector.get_columns(name)]
        indexes = sorted(str(one["name"]) for one in inspector.get_indexes(name))
        found[name] = (columns, indexes, sorted(map(repr, rows)))
    return found
