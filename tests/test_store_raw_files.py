"""What the files of the databases and of Redis hold, byte by byte: before and after an erasure."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import redis
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from scripted_service import opened
from services import Postgres, Redis
from sqlalchemy import select
from stores import all_rows, answer_to, sealed_values

from chatkit.answering.options import AnswerOptions
from chatkit.chat import ChatService
from chatkit.engines.scripted import Script
from chatkit.errors import EngineError, NotFound
from chatkit.sampling import Sampling
from chatkit.sealing import NONCE_BYTES, KeySeal
from chatkit.settings import settings
from chatkit.store.keys import own_name
from chatkit.store.master_key import MasterKey
from chatkit.store.opening import Store
from chatkit.store.records import ConversationSettings, Feedback
from chatkit.store.schema import conversation_keys, key_facts, user_keys
from chatkit.store.transaction import Transaction

pytestmark = pytest.mark.anyio

EXACT = AnswerOptions("scripted:", Sampling(temperature=0, stop=("markerstop",)))
USER = "markerperson"
KINDS = "question answer title system summary comment tag error stop preference"
MARKERS = tuple(f"marker{kind}" for kind in KINDS.split())


class Written(NamedTuple):
    """A conversation with every kind of text in it, and how it is stored."""

    conversation: str
    answer: str
    sealed: list[bytes]
    wrapped: list[bytes]


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """A Redis that writes what it holds to files, without packing it."""
    with Redis(appendonly=True) as server:
        server.ask("CONFIG SET rdbcompression no")
        yield server


def say(question: str) -> str:
    """Answer, summarise, or fail, with a marker in each."""
    if question.startswith("Summarise"):
        return "markersummary"
    if "fail" in question:
        raise EngineError("The engine failed at markererror, as its script says.")
    return "markeranswer"


async def write(service: ChatService) -> Written:
    """Write every kind of text that there is, and look at how it is stored."""
    settings = ConversationSettings("markersystem", "summarise")
    conversation = await service.begin(USER, settings, title="markertitle")
    for number in range(6):
        answer = await answer_to(
            service, conversation, f"markerquestion {'x' * 60} {number}", EXACT, USER
        )
    await service.feedback(
        USER, conversation, answer, Feedback("up", ("markertag",), "markercomment")
    )
    await answer_to(service, conversation, "fail", EXACT, USER)
    await service.store.opinions.prefer(USER, {"tone": "markerpreference"})
    return Written(
        conversation,
        answer,
        await sealed_values(service.store),
        await wrapped_keys(service.store, USER),
    )


async def wrapped_keys(store: Store, user: str) -> list[bytes]:
    """Give a user's keys as the key store holds them."""

    async def ask(connection: Transaction) -> list[bytes]:
        found: list[bytes] = []
        for table in (conversation_keys, user_keys):
            query = select(table.c.wrapped).where(table.c.user_id == user)
            found += [bytes(key) for key in (await connection.execute(query)).scalars()]
        return found

    return await store.keys._database.read(ask)


def found_in(folders: Iterable[Path], needles: Iterable[bytes]) -> set[bytes]:
    """Tell which byte strings stand in the files of some folders."""
    waiting, found = set(needles), set()
    for folder in folders:
        for file in filter(Path.is_file, folder.rglob("*")):
            data = file.read_bytes()
            found |= {needle for needle in waiting - found if needle in data}
    return found


def markers_in(*folders: Path) -> set[str]:
    return {needle.decode() for needle in found_in(folders, (name.encode() for name in MARKERS))}


def beginnings(values: Iterable[bytes]) -> list[bytes]:
    """Cut out of each value what no page of a file divides; what is shorter says nothing."""
    return [value[:24] for value in values if len(value) >= 24]


def files_of(server: Postgres, url: str) -> list[Path]:
    """Write everything to the files, and name the folders that hold one database's bytes."""
    server.run_sql("CHECKPOINT")
    name = urlsplit(url).path.strip("/")
    number = server.run_sql(f"SELECT oid FROM pg_database WHERE datname = '{name}'")
    others = [folder for folder in server.directory.iterdir() if folder.name != "base"]
    return [server.directory / "base" / number, *filter(Path.is_dir, others)]


def written_out(server: Redis) -> Path:
    """Let Redis write both of its kinds of files anew, and give their folder."""
    assert server.ask("SAVE") == ["+OK"]
    client = redis.Redis.from_url(server.url)
    client.bgrewriteaof()
    busy = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
    while any(client.info("persistence")[name] for name in busy):
        time.sleep(0.02)
    client.close()
    return server.directory


async def keys_of(store: Store) -> dict[str, bytes]:
    """Unwrap every key that there is, as somebody does who has all files."""
    master = MasterKey(None, settings().data / "master.key").key
    keys = {"master": master}

    async def ask(connection: Transaction) -> None:
        for table, above in ((key_facts, None), (user_keys, None), (conversation_keys, "user")):
            for row in await connection.execute(select(table)):
                if row[0] == "encryption":  # Not a key, but whether there are any.
                    continue
                name = {"key_facts": row[0], "user_keys": f"user:{row[0]}"}.get(table.name, row[0])
                key = keys[f"user:{row.user_id}"] if above else master
                keys[name] = KeySeal(key).open_bytes(row[-1], name)

    await store.keys._database.read(ask)
    return keys


def read_with(key: bytes, sealed: Iterable[bytes]) -> set[str]:
    """Read with a key and no regard to seals, and tell which markers come out."""
    found: set[str] = set()
    for value in sealed:
        nonce = value[1 : 1 + NONCE_BYTES] + (2).to_bytes(4, "big")
        text = Cipher(AES(key), CTR(nonce)).decryptor().update(value[1 + NONCE_BYTES :])
        found |= {marker for marker in MARKERS if marker.encode() in text}
    return found


@pytest.mark.lengthy
async def test_sqlite_files_never_hold_what_was_written(own_home: Path) -> None:
    async with opened(Script(say, context=900)) as service:
        await write(service)
        assert not markers_in(own_home)


@pytest.mark.lengthy
async def test_a_deleted_conversation_is_gone_from_every_sqlite_file(own_home: Path) -> None:
    async with opened(Script(say, context=900)) as service:
        written = await write(service)
        secrets = beginnings([*written.sealed, *written.wrapped])
        assert found_in([own_home], secrets) == set(secrets)
        await service.delete(USER, written.conversation)
        kept = [*await sealed_values(service.store), *await wrapped_keys(service.store, USER)]
        # The person's own keys, and what they seal: their preferences.
        assert found_in([own_home], secrets) == set(beginnings(kept)) and len(kept) == 3
        assert not markers_in(own_home)


@pytest.mark.lengthy
async def test_a_deleted_person_is_gone_from_every_sqlite_file(own_home: Path) -> None:
    async with opened(Script(say, context=900)) as service:
        written = await write(service)
        secrets = beginnings([*written.sealed, *written.wrapped])
        await service.delete_user(USER)
        assert not found_in([own_home], [*secrets, USER.encode()])
        assert not markers_in(own_home)


@pytest.mark.lengthy
@pytest.mark.parametrize("whole", [False, True], ids=["the conversation", "the person"])
async def test_without_encryption_a_deletion_reaches_index_and_log(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setenv("CHATKIT_ENCRYPTION", "off")
    async with opened(Script(say, context=900)) as service:
        written = await write(service)
        assert markers_in(own_home) == set(MARKERS)
        if whole:
            await service.delete_user(USER)
            assert not markers_in(own_home)
        else:
            await service.delete(USER, written.conversation)
            assert markers_in(own_home) == {"markerpreference"}
        assert not await service.search(USER, "markerquestion")


@pytest.mark.services
async def test_redis_never_holds_what_was_written_and_nothing_of_it_is_left(
    own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own_redis.new_database()
    monkeypatch.setenv("CHATKIT_REDIS_URL", url)
    client = redis.Redis.from_url(url)
    async with opened(Script(say, context=900)) as service:
        written = await write(service)
        keys = [key for key in client.scan_iter() if b"live" in key]
        events = beginnings(fields[b"e"] for key in keys for _, fields in client.xrange(key))
        folder = written_out(own_redis)
        assert found_in([folder], events) == set(events) != set()
        assert not markers_in(folder)
        await service.delete(USER, written.conversation)
        assert not [key for key in client.scan_iter() if b"live" in key]
        assert not found_in([written_out(own_redis)], events)
    client.close()


@pytest.mark.services
async def test_postgres_keeps_only_bytes_that_no_key_reads(
    postgres: Postgres, postgres_url: str, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_DATABASE_URL", postgres_url)
    async with opened(Script(say, context=900)) as service:
        written = await write(service)
        await service.begin(USER, title="kept")
        assert not markers_in(*files_of(postgres, postgres_url), own_home)
        destroyed = (await keys_of(service.store))[written.conversation]
        await service.delete(USER, written.conversation)
        folders = [*files_of(postgres, postgres_url), own_home]
        left = await keys_of(service.store)
    # Rows that it deletes stay in PostgreSQL's files until others take the room.
    remains = found_in(folders, beginnings(written.sealed))
    sealed = [value for value in written.sealed if value[:24] in remains]
    assert read_with(destroyed, sealed) == set(MARKERS) - {"markerpreference"}
    del left[own_name(USER)]
    assert not any(read_with(key, sealed) for key in left.values())
    assert not found_in(folders, [*beginnings(written.wrapped[:1]), destroyed])


async def talk_without_trace(service: ChatService) -> str:
    """Write every kind of text into a temporary conversation."""
    settings = ConversationSettings("markersystem", "summarise")
    conversation = await service.begin(USER, settings, title="markertitle", temporary=True)
    for number in range(6):
        text = f"markerquestion {'x' * 60} {number}"
        answer = await answer_to(service, conversation, text, EXACT, USER)
    await service.feedback(USER, conversation, answer, Feedback("up", (), "markercomment"))
    await answer_to(service, conversation, "fail", EXACT, USER)
    await service.fork(USER, conversation, answer)
    await service.rename(USER, conversation, "markertitle again")
    return conversation


@pytest.mark.lengthy
async def test_a_temporary_chat_leaves_no_file_and_no_byte(own_home: Path) -> None:
    async with opened(Script(say, context=900)) as service:
        files, rows = set(own_home.rglob("*")), await all_rows(service.store)
        conversation = await talk_without_trace(service)
        assert set(own_home.rglob("*")) == files
        assert await all_rows(service.store) == rows
        assert not found_in([own_home], [conversation.encode(), USER.encode()])
        assert not markers_in(own_home)
        assert await service.conversations(USER) == () == await service.export(USER)
        assert await service.search(USER, "markerquestion") == ()
    assert not markers_in(own_home)
    async with opened(Script(say)) as service:
        with pytest.raises(NotFound, match=conversation):
            await service.page(USER, conversation)


@pytest.mark.services
async def test_a_temporary_chat_reaches_no_server(
    postgres: Postgres,
    postgres_url: str,
    own_redis: Redis,
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = own_redis.new_database()
    monkeypatch.setenv("CHATKIT_DATABASE_URL", postgres_url)
    monkeypatch.setenv("CHATKIT_REDIS_URL", url)
    async with opened(Script(say, context=900)) as service:
        conversation = await talk_without_trace(service)
        folders = [*files_of(postgres, postgres_url), written_out(own_redis), own_home]
        assert not markers_in(*folders)
        assert not found_in(folders, [conversation.encode()])
