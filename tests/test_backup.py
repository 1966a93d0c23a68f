"""Backups: one moment of the database, which restores into either kind of database."""

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_service import SCRIPTED, USER, opened, slow_script
from sqlalchemy import text as sql
from stores import all_rows, begun, chain, opened_store, rows

from chatkit.errors import (
    DatabaseVersion,
    DiskFull,
    ImportRefused,
    InputError,
    KeyUnavailable,
    NotFound,
)
from chatkit.exchange.portable import Portable
from chatkit.settings import settings
from chatkit.store import migrate
from chatkit.store.backup import back_up
from chatkit.store.backup_file import MANIFEST
from chatkit.store.opening import Store, open_store
from chatkit.store.portable import to_portable
from chatkit.store.records import Feedback
from chatkit.store.restore import Restored, restore
from chatkit.store.verify import verify

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.services)]


@pytest.fixture(params=KINDS)
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of another empty database: SQLite, then PostgreSQL."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/elsewhere.db"


@asynccontextmanager
async def store_at(address: str) -> AsyncIterator[Store]:
    store = await open_store(replace(settings(), database=address))
    try:
        yield store
    finally:
        await store.close()


async def put_back(file: Path, address: str, **how: Any) -> Restored:
    return await restore(replace(settings(), database=address), file, USER, **how)


async def portable(store: Store, conversation: str, user: str = USER) -> Portable:
    """Give a conversation whole, without a note in the audit log."""
    record = await store.conversations.find(user, conversation)
    tree = await store.nodes.tree(user, conversation)
    opinions = await store.opinions.on(user, conversation, [node.id for node in tree])
    return to_portable(record, tree, opinions)


async def filled(store: Store) -> str:
    """Fill a store with some of everything."""
    conversation = await begun(store, title="Tides", system="Be brief.")
    names = await chain(store, conversation, ["one", "two", "three", "four"])
    await chain(store, conversation, ["another beginning"])
    await store.nodes.set_head(USER, conversation, names[1])
    await store.opinions.give(USER, conversation, names[1], Feedback("up", ("kind",), "good"))
    await store.opinions.prefer(USER, {"tone": "dry"})
    await store.erasure.set_retention(USER, 30)
    return conversation


@pytest.mark.lengthy
async def test_a_backup_restores_into_either_database(
    database: str, elsewhere: str, tmp_path: Path
) -> None:
    async with opened_store() as store:
        conversation = await filled(store)
        before, tree = await all_rows(store), await portable(store, conversation)
        await back_up(store, tmp_path / "backup.zip", USER)
    done = await put_back(tmp_path / "backup.zip", elsewhere)
    async with store_at(elsewhere) as store:
        assert await portable(store, conversation) == tree
        assert await store.opinions.preferences(USER) == {"tone": "dry"}
        after = await all_rows(store)
        assert (await verify(store)).faults == 0
    assert done.skipped == done.erased == 0
    assert {name: len(found) for name, found in after.items() if name != "audit"} == {
        name: len(found) for name, found in before.items() if name != "audit"
    }


@pytest.mark.lengthy
async def test_the_audit_log_goes_on_after_a_restore(
    database: str, elsewhere: str, tmp_path: Path
) -> None:
    async with opened_store() as store:
        await filled(store)
        await back_up(store, tmp_path / "backup.zip", USER)
        noted = await store.audit.entries()
    await put_back(tmp_path / "backup.zip", elsewhere)
    async with store_at(elsewhere) as store:
        found = await store.audit.entries()
        assert found[:-1] == noted[:-1] and found[-1]["action"] == "restore"
        assert noted[-1]["action"] == "backup"
        assert (await store.audit.verify()).broken_at is None


@pytest.mark.lengthy
async def test_what_is_written_after_a_restore_comes_after_what_was_there(
    database: str, elsewhere: str, tmp_path: Path
) -> None:
    async with opened_store() as store:
        conversation = await filled(store)
        await back_up(store, tmp_path / "backup.zip", USER)
    await put_back(tmp_path / "backup.zip", elsewhere)
    async with store_at(elsewhere) as store:
        await chain(store, conversation, ["new"])
        numbers = await rows(store, "SELECT number FROM nodes ORDER BY number")
        assert len(set(numbers)) == 6
        assert (await store.nodes.tree(USER, conversation))[-1].message.content == "new"


@pytest.mark.lengthy
async def test_a_backup_is_one_moment_while_a_service_writes(
    database: str, elsewhere: str, tmp_path: Path
) -> None:
    async with opened(slow_script(0.01)) as service:
        complete = [await service.begin(USER, title=f"complete {n}") for n in range(3)]
        for conversation in complete:
            await chain(service.store, conversation, ["one", "two", "three"])
        trees = [await portable(service.store, conversation) for conversation in complete]
        growing = await service.begin(USER, title="growing")
        writing = asyncio.create_task(_go_on_writing(service, growing))
        await asyncio.sleep(0.5)
        async with opened_store() as store:
            await back_up(store, tmp_path / "backup.zip", USER)
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
    await put_back(tmp_path / "backup.zip", elsewhere)
    async with store_at(elsewhere) as store:
        assert [await portable(store, conversation) for conversation in complete] == trees
        found = await verify(store)
        assert found.broken == []
        answers = await rows(store, "SELECT status, worker FROM answers")
        assert {status for status, _ in answers} <= {"done", "interrupted"}
        assert (await store.nodes.tree(USER, growing))[0].message.content == "question 0"


async def _go_on_writing(service: Any, conversation: str) -> None:
    for number in range(10_000):
        await service.send(USER, conversation, f"question {number}", SCRIPTED)
        await asyncio.sleep(0.05)


@pytest.mark.lengthy
async def test_an_answer_that_was_being_written_is_interrupted_with_its_text(
    database: str, elsewhere: str, tmp_path: Path
) -> None:
    async with opened(slow_script(0.02)) as service:
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "go", SCRIPTED)
        async for event in service.subscribe(USER, conversation, turn.answer):
            if event.seq > 40:
                break
        await asyncio.sleep(0.5)
        await back_up(service.store, tmp_path / "backup.zip", USER)
    await put_back(tmp_path / "backup.zip", elsewhere)
    async with store_at(elsewhere) as store:
        answer = await store.nodes.find(USER, conversation, turn.answer)
        assert answer.facts is not None and answer.facts.status == "interrupted"
        assert answer.message.content.startswith("go w0 w1 ")
        assert not await rows(store, "SELECT * FROM workers")


@pytest.mark.lengthy
async def test_who_was_deleted_since_does_not_come_back(
    database: str, elsewhere: str, tmp_path: Path
) -> None:
    async with opened_store() as store:
        hers = await filled(store)
        his, gone = await begun(store, "bob", title="kept"), await begun(store, "bob")
        await chain(store, gone, ["a", "b"], user="bob")
        await back_up(store, tmp_path / "backup.zip", USER)
        await store.erasure.user(USER)
        await store.erasure.conversation("bob", gone)
    done = await put_back(tmp_path / "backup.zip", elsewhere)
    assert (done.skipped, done.erased) == (0, 2)
    async with store_at(elsewhere) as store:
        assert await rows(store, "SELECT id FROM users") == [("bob",)]
        assert [one.id for one in await store.conversations.page("bob", 9)] == [his]
        assert not await rows(store, "SELECT * FROM nodes")
        assert (await verify(store)).faults == 0
        with pytest.raises(NotFound):
            await store.conversations.find(USER, hers)


async def test_no_key_and_no_text_is_in_a_backup(database: str, tmp_path: Path) -> None:
    async with opened_store() as store:
        await filled(store)
        await back_up(store, tmp_path / "backup.zip", USER)

        async def ask(connection: Any) -> list[bytes]:
            found = []
            for table in ("user_keys", "conversation_keys"):
                found += await connection.execute(sql(f"SELECT wrapped FROM {table}"))
            return [bytes(row[0]) for row in found]

        wrapped = await store.keys._database.read(ask)
    with zipfile.ZipFile(tmp_path / "backup.zip") as file:
        held = b"".join(file.read(name) for name in file.namelist())
    secrets = [b"another beginning", b"Tides", b"Be brief", b"dry"]
    secrets += [base64.b64encode(key) for key in wrapped]
    assert len(wrapped) == 3 and not [secret for secret in secrets if secret in held]


@pytest.mark.lengthy
async def test_in_the_clear_what_is_restored_is_found_again(
    database: str, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_ENCRYPTION", "off")
    async with opened_store() as store:
        conversation = await filled(store)
        assert not (await back_up(store, tmp_path / "backup.zip", USER)).encrypted
    await put_back(tmp_path / "backup.zip", elsewhere)
    async with store_at(elsewhere) as store:
        (hit,) = await store.search.find(USER, "beginning")
        assert hit.conversation == conversation


@pytest.mark.lengthy
async def test_a_backup_never_takes_another_file_s_place(store: Store, tmp_path: Path) -> None:
    taken = tmp_path / "taken.zip"
    taken.write_text("mine")
    with pytest.raises(InputError, match="already"):
        await back_up(store, taken, USER)
    with pytest.raises(InputError, match="cannot be written"):
        await back_up(store, tmp_path / "no" / "such" / "folder.zip", USER)
    assert taken.read_text() == "mine" and not list(tmp_path.glob(".*draft"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 KiB."""
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("a small disk needs the right to mount one")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_is_full_leaves_no_half_backup(store: Store, small_disk: Path) -> None:
    conversation = await begun(store)
    await chain(store, conversation, [os.urandom(50_000).hex()])
    with pytest.raises(DiskFull, match=r"no room to write .*backup\.zip"):
        await back_up(store, small_disk / "backup.zip", USER)
    assert not list(small_disk.iterdir())


@pytest.mark.lengthy
async def test_a_restore_never_mixes_with_what_is_there(
    database: str, elsewhere: str, tmp_path: Path
) -> None:
    async with opened_store() as store:
        await filled(store)
        await back_up(store, tmp_path / "backup.zip", USER)
    async with store_at(elsewhere) as store:
        other = await begun(store, "bob")
    with pytest.raises(InputError, match="not empty"):
        await put_back(tmp_path / "backup.zip", elsewhere)
    async with store_at(elsewhere) as store:
        assert await rows(store, "SELECT id FROM conversations") == [(other,)]


@pytest.mark.lengthy
async def test_without_its_keys_a_backup_is_refused_or_left_out(
    database: str, elsewhere: str, tmp_path: Path
) -> None:
    async with opened_store() as store:
        kept, lost = await begun(store, title="kept"), await begun(store, title="lost")

        async def lose(connection: Any) -> None:
            await connection.execute(
                sql("DELETE FROM conversation_keys WHERE conversation_id = :id"), {"id": lost}
            )

        await back_up(store, tmp_path / "backup.zip", USER)
        await store.keys._database.write(lose)
    with pytest.raises(KeyUnavailable, match="1 conversations"):
        await put_back(tmp_path / "backup.zip", elsewhere)
    done = await put_back(tmp_path / "backup.zip", elsewhere, skip_unreadable=True)
    assert (done.skipped, done.erased) == (1, 0)
    async with store_at(elsewhere) as store:
        assert [one.id for one in await store.conversations.page(USER, 9)] == [kept]


@pytest.mark.parametrize("here", ["on", "off"])
async def test_encryption_must_be_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str
) -> None:
    monkeypatch.setenv("CHATKIT_ENCRYPTION", {"on": "off", "off": "on"}[here])
    async with opened_store() as store:
        await filled(store)
        await back_up(store, tmp_path / "backup.zip", USER)
    monkeypatch.setenv("CHATKIT_ENCRYPTION", here)
    monkeypatch.setenv("CHATKIT_KEYS_URL", f"sqlite:///{tmp_path}/other-keys.db")
    with pytest.raises(KeyUnavailable, match=r"The backup is .* set CHATKIT_ENCRYPTION to"):
        await put_back(tmp_path / "backup.zip", f"sqlite:///{tmp_path}/elsewhere.db")


@pytest.mark.lengthy
async def test_a_backup_of_an_older_version_is_brought_forward(
    database: str, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_store() as store:
        conversation = await filled(store)
        tree = await portable(store, conversation)
        await back_up(store, tmp_path / "backup.zip", USER)
    become_next(tmp_path, monkeypatch)
    await put_back(tmp_path / "backup.zip", elsewhere)
    async with store_at(elsewhere) as store:
        assert await migrate.version(store.database) == "0004"
        assert await portable(store, conversation) == tree
        assert await rows(store, "SELECT colour FROM conversations") == [("grey",)]


async def test_a_backup_of_a_newer_version_is_refused(
    database: str, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = await made(tmp_path)
    change(backup, manifest={"schema_version": "9999"})
    with pytest.raises(DatabaseVersion, match="9999"):
        await put_back(backup, elsewhere)


def become_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Become the program's next version, which knows a column more."""
    there = tmp_path / "next" / "migrations"
    folder = Path(migrate.__file__).parent / "migrations"
    shutil.copytree(folder, there, ignore=shutil.ignore_patterns("__pycache__"))
    (there / "versions" / "v0004_next.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        'revision, down_revision = "0004", "0003"\n'
        "def upgrade():\n"
        '    op.add_column("conversations", sa.Column("colour", sa.Text, server_default="grey"))\n'
        "def downgrade():\n"
        '    op.drop_column("conversations", "colour")\n'
    )
    monkeypatch.setattr(migrate, "__file__", str(there.parent / "migrate.py"))
    monkeypatch.setattr(migrate, "NEWEST", "0004")


async def made(tmp_path: Path) -> Path:
    """Make a backup of some of everything."""
    async with opened_store() as store:
        await filled(store)
        await back_up(store, tmp_path / "backup.zip", USER)
    return tmp_path / "backup.zip"


def read(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as backup:
        return {name: backup.read(name) for name in backup.namelist()}


def write(file: Path, entries: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as backup:
        for name, content in entries:
            backup.writestr(name, content)


def change(
    file: Path,
    *,
    manifest: dict[str, Any] | None = None,
    tables: dict[str, bytes] | None = None,
    honest: bool = True,
) -> None:
    """Change a backup, and its manifest with it where it is to look honest."""
    entries = read(file)
    said = json.loads(entries[MANIFEST])
    for name, content in (tables or {}).items():
        entries[f"{name}.jsonl"] = content
        if honest:
            said["tables"][name] = {
                "rows": content.count(b"\n"),
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
    entries[MANIFEST] = json.dumps(said | (manifest or {})).encode()
    write(file, entries.items())


def row_changed(file: Path, table: str, **values: Any) -> None:
    """Change the first row of a table."""
    first, *rest = read(file)[f"{table}.jsonl"].splitlines(keepends=True)
    line = json.dumps({**json.loads(first), **values}).encode() + b"\n"
    change(file, tables={table: b"".join([line, *rest])})


def flip_in_the_middle(file: Path) -> None:
    """Flip a bit of what is packed; those of a member's date in its header nobody reads."""
    start, size = packed(file)
    data = bytearray(file.read_bytes())
    data[start + size // 2] ^= 1
    file.write_bytes(data)


def pack_otherwise(file: Path) -> None:
    """Begin a member with a block of a kind that deflate does not have (RFC 1951, 3.2.3)."""
    start, _ = packed(file)
    data = bytearray(file.read_bytes())
    data[start] = 0b111
    file.write_bytes(data)


def packed(file: Path) -> tuple[int, int]:
    """Tell where what is packed of the largest member begins, and how long it is."""
    with zipfile.ZipFile(file) as backup:
        largest = max(backup.infolist(), key=lambda member: member.compress_size)
    data, names = file.read_bytes(), largest.header_offset + 26
    lengths = (int.from_bytes(data[names + n : names + n + 2], "little") for n in (0, 2))
    return names + 4 + sum(lengths), largest.compress_size


def lies_about_bytes(file: Path) -> None:
    said = json.loads(read(file)[MANIFEST])["tables"]
    said["nodes"]["bytes"] += 1
    change(file, manifest={"tables": said})


def with_another_file(file: Path) -> None:
    write(file, [*read(file).items(), ("../../evil.jsonl", b"{}\n")])


def without_a_table(file: Path) -> None:
    said = json.loads(read(file)[MANIFEST])["tables"]
    del said["audit"]
    kept = {name: content for name, content in read(file).items() if name != "audit.jsonl"}
    write(file, kept.items())
    change(file, manifest={"tables": said})


def twice_the_same(file: Path) -> None:
    entries = list(read(file).items())
    with pytest.warns(UserWarning):
        write(file, [*entries, entries[0]])


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no zip": (lambda file: file.write_bytes(b"hello"), "no backup"),
    "empty": (lambda file: file.write_bytes(b""), "no backup"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:-200]), "cut off"),
    "another zip": (lambda file: write(file, [("conversations.json", b"[]")]), "no manifest"),
    "a flipped bit": (flip_in_the_middle, "damaged|cut off|changed"),
    "packed otherwise": (pack_otherwise, "damaged"),
    "a changed row": (
        lambda file: change(file, tables={"heads": b"{}\n"}, honest=False),
        "heads.jsonl: its size",
    ),
    "a changed digit": (
        lambda file: change(
            file,
            tables={"users": read(file)["users.jsonl"].replace(b"30.0", b"31.0")},
            honest=False,
        ),
        "users.jsonl: it was changed",
    ),
    "a lie about bytes": (lies_about_bytes, "nodes.jsonl: its size"),
    "another form": (lambda file: change(file, manifest={"form": 2}), "manifest"),
    "a missing table": (without_a_table, "other tables"),
    "a file that leads outside": (with_another_file, "other files"),
    "a file twice": (twice_the_same, "other files"),
    "no JSON": (lambda file: change(file, tables={"users": b"{\n"}), "users.jsonl: row 1"),
    "too deep": (
        lambda file: change(file, tables={"users": b"[" * 99_999 + b"\n"}),
        "users.jsonl: row 1",
    ),
    "another column": (lambda file: row_changed(file, "nodes", colour="red"), "nodes.jsonl: row 1"),
    "another type": (lambda file: row_changed(file, "nodes", number="1"), "nodes.jsonl: row 1"),
    "too large": (lambda file: row_changed(file, "nodes", number=2**63), "nodes.jsonl: row 1"),
    "too long": (lambda file: row_changed(file, "nodes", role="x" * 99), "nodes.jsonl: row 1"),
    "a NUL": (lambda file: row_changed(file, "nodes", role="x\0"), "nodes.jsonl: row 1"),
    "half a pair": (lambda file: row_changed(file, "nodes", role="\ud800"), "nodes.jsonl: row 1"),
    "no base64": (lambda file: row_changed(file, "nodes", sealed="%%"), "nodes.jsonl: row 1"),
    "nothing": (lambda file: row_changed(file, "nodes", sealed=None), "nodes.jsonl: row 1"),
    "nobody's": (lambda file: row_changed(file, "conversations", user_id="eve"), "conversations"),
    "the same twice": (lambda file: row_changed(file, "nodes", number=2), "nodes.jsonl: the data"),
}


@pytest.mark.lengthy
@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize(
    "elsewhere",
    ["sqlite", pytest.param("postgres", marks=[pytest.mark.services, pytest.mark.slow])],
    indirect=True,
)
async def test_a_spoiled_backup_is_refused_with_the_place(
    how: str, elsewhere: str, tmp_path: Path
) -> None:
    backup = await made(tmp_path)
    spoil, said = SPOILED[how]
    spoil(backup)
    with pytest.raises(ImportRefused, match=said) as refused:
        await put_back(backup, elsewhere)
    assert str(refused.value).startswith("backup.zip: ")
    async with store_at(elsewhere) as store:
        assert not any((await all_rows(store)).values())


@pytest.mark.lengthy
async def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatkit.store.backup_file.MOST_PACKED_BYTES", 1 << 20)
    backup = await made(tmp_path)
    change(backup, tables={"users": b" " * (1 << 22)})
    with pytest.raises(ImportRefused, match=r"users\.jsonl: its size"):
        await put_back(backup, f"sqlite:///{tmp_path}/elsewhere.db")
