"""Keys: who has which, what each opens, and what comes of a wrong one."""

import stat
from pathlib import Path

import pytest
from scripted_service import USER
from stores import begun, chain, opened_store, rows, sealed_values, texts

from chatkit.errors import InputError, KeyUnavailable, NotFound
from chatkit.sealing import KeySeal, PlainSeal, new_key
from chatkit.settings import settings
from chatkit.store.opening import Store
from chatkit.store.records import Feedback

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio


@pytest.fixture
def kind() -> str:
    """The keys are in a SQLite file of their own, whichever database the conversations are in."""
    return "sqlite"


async def test_the_master_key_is_its_owners_only(store: Store) -> None:
    file = settings().data / "master.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(bytes.fromhex(file.read_text())) == 32


async def test_a_master_key_from_the_environment_is_not_written_down(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    monkeypatch.setenv("CHATKIT_MASTER_KEY", key.hex())
    async with opened_store() as store:
        await begun(store, title="tides")
    assert not (own_home / "master.key").exists()
    held = b"".join(file.read_bytes() for file in own_home.rglob("*") if file.is_file())
    assert key not in held and key.hex().encode() not in held


async def test_another_master_key_opens_nothing_and_says_so(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_store() as store:
        conversation = await begun(store, title="tides")
    monkeypatch.setenv("CHATKIT_MASTER_KEY", new_key().hex())
    with pytest.raises(KeyUnavailable, match=r"in CHATKIT_MASTER_KEY is not the one .* restore"):
        async with opened_store():
            pass
    monkeypatch.delenv("CHATKIT_MASTER_KEY")
    async with opened_store() as store:
        assert (await store.conversations.find(USER, conversation)).title == "tides"


@pytest.mark.parametrize("given", ["no key", "ab" * 31, "ab" * 33])
async def test_what_is_no_master_key_is_refused(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("CHATKIT_MASTER_KEY", given)
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        async with opened_store():
            pass
    assert not own_home.exists() or not list(own_home.iterdir())


async def test_each_conversation_has_a_key_of_its_own(store: Store) -> None:
    first, second = await begun(store, title="one"), await begun(store, title="two")
    (sealed,) = await rows(store, f"SELECT sealed_title FROM conversations WHERE id = '{first}'")
    seals = await store.keys.of_conversations(USER, [first, second])
    assert seals[first].open(bytes(sealed[0]), f"title:{first}") == "one"
    with pytest.raises(KeyUnavailable):
        seals[second].open(bytes(sealed[0]), f"title:{first}")


async def test_what_is_sealed_opens_only_where_it_belongs(store: Store) -> None:
    conversation = await begun(store, title="tides", system="Be brief.")
    names = await chain(store, conversation, ["one", "two"])
    await store.opinions.give(USER, conversation, names[1], Feedback("up"))
    seal = await store.keys.of_conversation(USER, conversation)
    places = [f"title:{conversation}", f"settings:{conversation}", f"feedback:{names[1]}"]
    places += [f"node:{name}" for name in names]
    values = [value for value in await sealed_values(store)]
    for value in values:
        opening = []
        for place in places:
            try:
                seal.open(value, place)
            except KeyUnavailable:
                continue
            opening.append(place)
        assert len(opening) == 1
    assert len(values) == len(places)


async def test_a_text_that_was_moved_or_changed_is_not_shown(store: Store) -> None:
    conversation = await begun(store)
    names = await chain(store, conversation, ["one", "two"])
    from sqlalchemy import text

    async def swap(connection: object) -> None:
        other = text(
            "UPDATE nodes SET sealed = (SELECT sealed FROM nodes WHERE id = :a) WHERE id = :b"
        )
        await connection.execute(other, {"a": names[0], "b": names[1]})  # type: ignore[attr-defined]

    await store.database.write(swap)
    with pytest.raises(KeyUnavailable, match=f"node:{names[1]}"):
        await texts(store, conversation, names[1])


@pytest.mark.parametrize("place", [0, 5, 20, -1])
def test_a_changed_byte_is_noticed(place: int) -> None:
    seal = KeySeal(new_key())
    sealed = bytearray(seal.close("tides", "node:1"))
    sealed[place] ^= 1
    with pytest.raises(KeyUnavailable, match="node:1"):
        seal.open(bytes(sealed), "node:1")


def test_the_same_text_is_never_sealed_the_same_way() -> None:
    seal = KeySeal(new_key())
    assert len({seal.close("tides", "node:1") for _ in range(100)}) == 100


@pytest.mark.parametrize("begun_with", ["on", "off"])
async def test_encryption_is_no_switch_for_later(
    database: str, monkeypatch: pytest.MonkeyPatch, begun_with: str
) -> None:
    monkeypatch.setenv("CHATKIT_ENCRYPTION", begun_with)
    async with opened_store() as store:
        conversation = await begun(store, title="tides")
    monkeypatch.setenv("CHATKIT_ENCRYPTION", {"on": "off", "off": "on"}[begun_with])
    with pytest.raises(KeyUnavailable, match=f"set CHATKIT_ENCRYPTION to {begun_with}"):
        async with opened_store():
            pass
    monkeypatch.setenv("CHATKIT_ENCRYPTION", begun_with)
    async with opened_store() as store:
        assert (await store.conversations.find(USER, conversation)).title == "tides"


async def test_a_remembered_key_is_for_its_owner_alone(database: str) -> None:
    async with opened_store() as store:
        conversation = await begun(store)
        await store.keys.of_conversation(USER, conversation)
        with pytest.raises(NotFound):
            await store.keys.of_conversation("somebody else", conversation)


def test_a_sealed_text_does_not_pass_for_a_plain_one() -> None:
    sealed = KeySeal(new_key()).close("tides", "node:1")
    with pytest.raises(KeyUnavailable):
        PlainSeal().open(sealed, "node:1")


def test_a_plain_text_does_not_pass_for_a_sealed_one() -> None:
    with pytest.raises(KeyUnavailable):
        KeySeal(new_key()).open(PlainSeal().close("tides", "node:1"), "node:1")
