"""`python -m chatkit db`: the form of the database, its backups, and its keys."""

import json
import shutil
from pathlib import Path

import pytest
from command import ran, run
from scripted_service import USER
from stores import all_rows, begun, chain, opened_store

from chatkit.background import wait_for
from chatkit.sealing import new_key
from chatkit.settings import settings
from chatkit.store import migrate

pytest_plugins = "store_fixtures"

ME = ("--user", USER)


def filled() -> str:
    """Store a conversation, and give its name."""

    async def fill() -> str:
        async with opened_store() as store:
            id = await begun(store, title="Tides")
            await chain(store, id, ["What makes the tide?", "The moon."])
            return id

    return wait_for(fill())


def everything() -> dict[str, list[tuple[object, ...]]]:
    """Give all rows of the database."""

    async def read() -> dict[str, list[tuple[object, ...]]]:
        async with opened_store() as store:
            return await all_rows(store)

    return wait_for(read())


@pytest.fixture
def elsewhere(tmp_path: Path) -> str:
    """The address of another database, which is empty."""
    return f"sqlite:///{tmp_path}/elsewhere.db"


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the program's next version, which knows a column more."""
    there = tmp_path / "next" / "migrations"
    folder = Path(migrate.__file__).parent / "migrations"
    shutil.copytree(folder, there, ignore=shutil.ignore_patterns("__pycache__"))
    (there / "versions" / "v0004_next.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        'revision, down_revision = "0004", "0003"\n'
        "def upgrade():\n"
        '    op.add_column("nodes", sa.Column("colour", sa.Text))\n'
        "def downgrade():\n"
        '    op.drop_column("nodes", "colour")\n'
    )
    monkeypatch.setattr(migrate, "__file__", str(there.parent / "migrate.py"))


def present() -> str:
    """Give the version that `db versions` tells."""
    return ran("db", "versions").splitlines()[-1].rpartition(": ")[2]


def test_a_new_database_is_empty_until_it_is_upgraded(empty_database: str) -> None:
    assert present() == "empty"
    assert ran("db", "upgrade").endswith(f": {migrate.NEWEST}\n")
    assert present() == migrate.NEWEST
    assert "present" in ran("db", "versions").splitlines()[-2]


def test_versions_go_up_and_down_with_what_is_there(database: str, next_version: None) -> None:
    filled()
    before = everything()
    assert ran("db", "upgrade").endswith(": 0004\n")
    assert ran("db", "downgrade", "0003", "--yes").endswith(": 0003\n")
    assert everything() == before
    assert ran("db", "upgrade", "--to", "0003").endswith(": 0003\n")


@pytest.mark.lengthy
def test_a_downgrade_loses_nothing_unasked(database: str) -> None:
    filled()
    refused = run("db", "downgrade", "base")
    assert refused.code == 2 and "--yes" in refused.error and present() == migrate.NEWEST
    assert ran("db", "downgrade", "base", "--yes").endswith(": empty\n")
    assert ran("conversations", "list", *ME) == ""


def test_an_unknown_version_is_refused(database: str) -> None:
    filled()
    for command in (("upgrade", "--to"), ("downgrade", "--yes")):
        refused = run("db", *command, "7777")
        assert refused.code == 1 and "db versions" in refused.error
    assert present() == migrate.NEWEST


@pytest.mark.lengthy
def test_a_backup_is_restored_elsewhere(
    database: str, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = filled()
    file = tmp_path / "backup.zip"
    said = ran("db", "backup", str(file))
    assert "nodes" in said and "holds no keys" in said and f"Wrote {file}" in said
    shown = ran("conversations", "show", id, *ME)
    monkeypatch.setenv("CHATKIT_DATABASE_URL", elsewhere)
    assert "Restored the backup of " in ran("db", "restore", str(file))
    assert ran("conversations", "show", id, *ME) == shown
    assert "Everything is whole." in ran("conversations", "verify")
    refused = run("db", "restore", str(file))
    assert refused.code == 2 and "not empty" in refused.error


@pytest.mark.lengthy
def test_what_was_deleted_is_named_when_it_is_left_out(
    elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = filled()
    file = tmp_path / "backup.zip"
    ran("db", "backup", str(file))
    ran("conversations", "delete", id, "--yes", *ME)
    monkeypatch.setenv("CHATKIT_DATABASE_URL", elsewhere)
    assert "Left out 1 conversation that was deleted since." in ran("db", "restore", str(file))


def test_a_backup_in_the_clear_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_ENCRYPTION", "off")
    filled()
    assert "NOT encrypted" in ran("db", "backup", str(tmp_path / "backup.zip"))


def test_a_backup_takes_no_file_s_place(tmp_path: Path) -> None:
    filled()
    file = tmp_path / "backup.zip"
    file.write_text("mine")
    assert run("db", "backup", str(file)).code == 2 and file.read_text() == "mine"


@pytest.mark.parametrize("name", ["none.zip", "."])
def test_what_cannot_be_read_is_not_restored(name: str, tmp_path: Path) -> None:
    refused = run("db", "restore", str(tmp_path / name))
    assert refused.code == 2 and "cannot be read" in refused.error


def test_rotated_keys_open_what_was_there(database: str) -> None:
    id = filled()
    before = (settings().data / "master.key").read_text()
    assert ran("db", "rotate-keys") == "Rotated the keys of 1 user.\n"
    assert (settings().data / "master.key").read_text() != before
    assert "The moon." in ran("conversations", "show", id, *ME)
    assert "Everything is whole." in ran("conversations", "verify")


def test_a_key_may_be_brought(tmp_path: Path) -> None:
    filled()
    file = tmp_path / "next.key"
    file.write_text(new_key().hex())
    ran("db", "rotate-keys", "--new-key-from-file", str(file))
    assert (settings().data / "master.key").read_text() == file.read_text()


def test_a_key_of_the_environment_is_changed_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_MASTER_KEY", new_key().hex())
    id = filled()
    file = tmp_path / "next.key"
    file.write_text(new_key().hex())
    refused = run("db", "rotate-keys")
    assert refused.code == 2 and "--new-key-from-file" in refused.error
    said = ran("db", "rotate-keys", "--new-key-from-file", str(file))
    assert "Now set CHATKIT_MASTER_KEY" in said
    assert run("conversations", "show", id, *ME).code == 1
    monkeypatch.setenv("CHATKIT_MASTER_KEY", file.read_text())
    assert json.loads(ran("conversations", "show", id, "--json", *ME))["title"] == "Tides"
