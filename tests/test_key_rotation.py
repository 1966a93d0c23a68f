"""Rotating keys: nothing becomes unreadable, whenever it is cut short and whoever works then."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripted_service import USER, opened
from sqlalchemy import select
from stores import answer_to, begun, chain, opened_store, texts

from chatkit.errors import InputError, KeyUnavailable
from chatkit.sealing import new_key
from chatkit.settings import settings
from chatkit.store.opening import Store
from chatkit.store.records import Feedback
from chatkit.store.rotation import key_from_file, rotate_keys
from chatkit.store.schema import conversation_keys, key_facts, user_keys
from chatkit.store.verify import verify

pytestmark = pytest.mark.anyio

# Where a rotation is killed: what is called there ends the process.
STEPS = {
    "before the new key is written": "master_key.MasterKey.propose",
    "while it is written": "master_key.os.fsync",
    "before the key store is changed": "keys.rewrap",
    "while the key store is changed": "wrapping._rewrap_conversations",
    "before the key takes its place": "master_key.MasterKey._take_place",
    "after the key took its place": "database.Database.forget_remnants",
}
KILLED = """
import asyncio, importlib, os, sys
from chatkit.settings import settings
from chatkit.store.opening import open_store
from chatkit.store.rotation import rotate_keys

module, _, place = sys.argv[1].partition(".")
owner = importlib.import_module(f"chatkit.store.{module}")
*path, name = place.split(".")
for step in path:
    owner = getattr(owner, step)

async def main():
    store = await open_store(settings())
    setattr(owner, name, lambda *_, **__: os._exit(9))
    await rotate_keys(store, None, "local")

asyncio.run(main())
"""


@pytest.fixture(
    params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)], autouse=True
)
def key_store(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> str:
    """The address of an empty key store, which the environment names."""
    if request.param == "postgres":
        monkeypatch.setenv("CHATKIT_KEYS_URL", request.getfixturevalue("postgres_url"))
    return settings().keys


async def filled() -> tuple[str, str]:
    """Fill a store, and give the master key and a conversation."""
    async with opened_store() as store:
        conversation = await begun(store, title="Tides")
        names = await chain(store, conversation, ["one", "two"])
        await store.opinions.give(USER, conversation, names[1], Feedback("up", (), "good"))
        await store.opinions.prefer(USER, {"tone": "dry"})
        await begun(store, "bob")
    return master_file().read_text(), conversation


def master_file() -> Path:
    return settings().data / "master.key"


async def wrapped(store: Store) -> dict[str, bytes]:
    """Give every wrapped key by its name."""

    async def ask(connection: Any) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for table in (key_facts, user_keys, conversation_keys):
            rows = await connection.execute(select(table))
            found |= {row[0]: bytes(row[-1]) for row in rows if row[0] != "encryption"}
        return found

    return await store.keys._database.read(ask)


async def assert_whole(conversation: str) -> None:
    """Open everything anew, and see that it can be read."""
    async with opened_store() as store:
        assert (await verify(store)).broken == []
        record = await store.conversations.find(USER, conversation)
        assert record.title == "Tides"
        assert await texts(store, conversation, record.head) == ["one", "two"]
        assert await store.opinions.preferences(USER) == {"tone": "dry"}


@pytest.mark.lengthy
async def test_after_a_rotation_everything_is_read_under_new_keys() -> None:
    before, conversation = await filled()
    async with opened_store() as store:
        old = await wrapped(store)
        assert await rotate_keys(store, None, USER) == 2
        new = await wrapped(store)
        assert [entry["action"] for entry in await store.audit.entries()] == ["rotate keys"]
    assert old.keys() == new.keys() and not set(old.values()) & set(new.values())
    assert master_file().read_text() != before
    assert master_file().stat().st_mode & 0o777 == 0o600
    await assert_whole(conversation)


async def test_the_old_master_key_opens_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = await filled()
    async with opened_store() as store:
        await rotate_keys(store, None, USER)
    master_file().write_text(before)
    with pytest.raises(KeyUnavailable, match="after a rotation"):
        async with opened_store():
            raise AssertionError("it was opened")


@pytest.mark.lengthy
@pytest.mark.parametrize("step", STEPS)
async def test_a_rotation_that_is_killed_leaves_everything_readable(step: str) -> None:
    _, conversation = await filled()
    command = [sys.executable, "-c", KILLED, STEPS[step]]
    assert subprocess.run(command, timeout=60).returncode == 9
    await assert_whole(conversation)
    async with opened_store() as store:
        await rotate_keys(store, None, USER)
    await assert_whole(conversation)
    assert not master_file().with_name("master.key.next").exists()


@pytest.mark.lengthy
async def test_a_running_service_goes_on_after_a_rotation() -> None:
    async with opened() as service:
        old = await service.begin(USER, title="old")
        async with opened_store() as other:
            await rotate_keys(other, None, USER)
        new = await service.begin(USER, title="new")
        await answer_to(service, new, "hi")
        assert [one.title for one in await service.conversations(USER)] == ["new", "old"]
        await service.delete(USER, old)
    async with opened_store() as store:
        assert (await verify(store)).broken == []
        assert [one.title for one in await store.conversations.page(USER, 9)] == ["new"]


@pytest.mark.lengthy
async def test_a_service_that_has_nothing_in_memory_reads_after_a_rotation() -> None:
    _, conversation = await filled()
    async with opened_store() as service, opened_store() as other:
        await rotate_keys(other, None, USER)
        await rotate_keys(other, None, USER)
        assert (await service.conversations.find(USER, conversation)).title == "Tides"
        assert await service.opinions.preferences(USER) == {"tone": "dry"}


@pytest.mark.lengthy
async def test_conversations_that_begin_during_rotations_can_be_read() -> None:
    _, conversation = await filled()
    async with opened_store() as one, opened_store() as two, opened_store() as rotating:

        async def begin(store: Store) -> list[str]:
            return [await begun(store, f"user {number % 5}") for number in range(40)]

        async def rotate() -> None:
            for _ in range(5):
                await rotate_keys(rotating, None, USER)

        begins = await asyncio.gather(begin(one), begin(two), rotate())
        assert len(set(begins[0]) | set(begins[1])) == 80
    await assert_whole(conversation)


@pytest.mark.lengthy
async def test_of_two_rotations_at_once_one_is_refused() -> None:
    _, conversation = await filled()
    async with opened_store() as one, opened_store() as two:
        done = await asyncio.gather(
            rotate_keys(one, None, USER), rotate_keys(two, None, USER), return_exceptions=True
        )
    assert {type(result) for result in done} == {int, KeyUnavailable}
    await assert_whole(conversation)


@pytest.mark.lengthy
async def test_a_rotation_that_is_repeated_after_a_broken_connection_is_the_same_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, conversation = await filled()
    async with opened_store() as store:
        backend = store.keys._database._backend
        once = backend.write

        async def twice(operation: Any, durability: Any) -> Any:
            await once(operation, durability)
            return await once(operation, durability)

        monkeypatch.setattr(backend, "write", twice)
        assert await rotate_keys(store, None, USER) == 2
    await assert_whole(conversation)


async def test_a_key_from_the_environment_is_changed_with_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_MASTER_KEY", new_key().hex())
    file = tmp_path / "next.key"
    file.write_text(new_key().hex() + "\n")
    async with opened_store() as store:
        conversation = await begun(store, title="Tides")
        with pytest.raises(InputError, match="--new-key-from-file"):
            await rotate_keys(store, None, USER)
        await rotate_keys(store, key_from_file(file), USER)
        assert (await store.conversations.find(USER, conversation)).title == "Tides"
    with pytest.raises(KeyUnavailable, match="CHATKIT_MASTER_KEY"):
        async with opened_store():
            raise AssertionError("it was opened")
    monkeypatch.setenv("CHATKIT_MASTER_KEY", file.read_text())
    async with opened_store() as store:
        assert (await store.conversations.find(USER, conversation)).title == "Tides"
    assert not master_file().exists() and not list(settings().data.glob("master.key*"))


async def test_a_service_with_the_old_key_in_its_environment_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHATKIT_MASTER_KEY", new_key().hex())
    async with opened_store() as service, opened_store() as other:
        known = await begun(service, title="known")
        await rotate_keys(other, new_key(), USER)
        assert (await service.conversations.find(USER, known)).title == "known"
        with pytest.raises(KeyUnavailable, match=r"CHATKIT_MASTER_KEY .* set the new one"):
            await begun(service)


@pytest.mark.parametrize("content", ["", "12", "x" * 64, "\x00", "é"])
async def test_a_file_without_a_key_changes_nothing(content: str, tmp_path: Path) -> None:
    file = tmp_path / "next.key"
    file.write_text(content)
    with pytest.raises(InputError, match=r"64 hexadecimal|cannot be read"):
        key_from_file(file)
    with pytest.raises(InputError, match="cannot be read"):
        key_from_file(tmp_path / "no.key")


@pytest.mark.lengthy
async def test_a_key_that_waits_for_nothing_is_not_taken() -> None:
    _, conversation = await filled()
    left = master_file().with_name("master.key.next")
    left.write_text(os.urandom(32).hex())
    before = master_file().read_text()
    await assert_whole(conversation)
    assert master_file().read_text() == before
