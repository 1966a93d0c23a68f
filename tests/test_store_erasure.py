"""Deletion that is final: no backup, no crash and no memory of the process brings it back."""

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from scripted_service import SCRIPTED, USER, opened, watched
from services import Postgres
from stores import all_rows, answer_to, begun, chain, opened_store, rows, texts
from test_store_votes import VOTE

from chatkit.answering.options import AnswerOptions
from chatkit.chat import ChatService
from chatkit.engines.scripted import Script
from chatkit.errors import NotFound
from chatkit.sampling import Sampling
from chatkit.settings import settings
from chatkit.store.opening import Store
from chatkit.store.records import Feedback

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

EXACT = AnswerOptions("scripted:", Sampling(temperature=0))
LATE = 4e9
Restore = Callable[[], None]


@pytest.fixture
def backed_up(
    database: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Restore]:
    """Copy the closed database as it is; what comes back puts the copy in its place."""

    def copy_file() -> Restore:
        file = Path(urlsplit(database).path)
        backup = shutil.copy(file, file.with_suffix(".backup"))

        def restore() -> None:
            for rest in file.parent.glob(f"{file.name}-*"):
                rest.unlink()
            shutil.copy(backup, file)

        return restore

    def copy_database() -> Restore:
        server: Postgres = request.getfixturevalue("postgres")
        backup = server.new_database(like=database)
        return lambda: monkeypatch.setenv("CHATKIT_DATABASE_URL", backup)

    return copy_file if database.startswith("sqlite") else copy_database


async def filled(store: Store) -> set[str]:
    """Name the tables that hold anything."""
    return {name for name, found in (await all_rows(store)).items() if found}


async def test_a_backup_does_not_bring_a_conversation_back(
    backed_up: Callable[[], Restore],
) -> None:
    async with opened_store() as store:
        gone, kept = await begun(store, title="gone"), await begun(store, title="kept")
        await chain(store, gone, ["a", "b"])
    restore = backed_up()
    async with opened_store() as store:
        await store.erasure.conversation(USER, gone)
    restore()
    async with opened_store() as store:
        assert [one.id for one in await store.conversations.page(USER, 9)] == [kept]
        assert not await rows(store, "SELECT * FROM nodes")


async def test_a_backup_does_not_bring_a_person_back(backed_up: Callable[[], Restore]) -> None:
    async with opened_store() as store:
        hers, his = await begun(store), await begun(store, "bob")
        await chain(store, hers, ["a", "b"])
        await chain(store, his, ["c"], user="bob")
        await store.opinions.prefer(USER, {"tone": "dry"})
    restore = backed_up()
    async with opened_store() as store:
        await store.erasure.user(USER)
    restore()
    async with opened_store() as store:
        assert await rows(store, "SELECT id FROM users") == [("bob",)]
        assert await rows(store, "SELECT id FROM conversations") == [(his,)]
        assert await rows(store, "SELECT role FROM nodes") == [("user",)]
        assert await store.opinions.preferences(USER) == {}


async def test_a_backup_does_not_bring_back_what_had_expired(
    backed_up: Callable[[], Restore],
) -> None:
    async with opened_store() as store:
        await begun(store)
    restore = backed_up()
    async with opened_store() as store:
        assert await store.erasure.expire(1, LATE)
    restore()
    async with opened_store() as store:
        assert not await store.conversations.ids(USER)


async def test_a_deletion_cut_short_is_ended_at_the_next_start(database: str) -> None:
    async with opened_store() as store:
        gone = await begun(store)
        await chain(store, gone, ["a", "b"])
        # What a process has done that ends in the middle of a deletion: the keys go first.
        await store.keys.destroy([gone])
    async with opened_store() as store:
        assert await filled(store) == {"users", "audit"}
        assert [entry["action"] for entry in await store.audit.entries()] == ["delete conversation"]


async def test_a_person_who_was_deleted_may_come_back(database: str) -> None:
    async with opened_store() as store:
        await begun(store, title="before")
        await store.erasure.user(USER)
        await begun(store, title="after")
    async with opened_store() as store:
        assert [one.title for one in await store.conversations.page(USER, 9)] == ["after"]


async def test_a_backup_does_not_bring_the_earlier_life_of_a_person_back(
    backed_up: Callable[[], Restore],
) -> None:
    async with opened_store() as store:
        await begun(store, title="before")
        await store.opinions.prefer(USER, {"tone": "dry"})
        await store.votes.cast(USER, VOTE)
    restore = backed_up()
    async with opened_store() as store:
        await store.erasure.user(USER)
        await begun(store, title="after")
    restore()
    async with opened_store() as store:
        assert await filled(store) == {"audit"}


@pytest.mark.lengthy
async def test_a_deletion_takes_everything_that_belongs_to_it(database: str) -> None:
    async with opened(Script(context=900)) as service:
        gone, kept = await service.begin(USER), await service.begin(USER)
        for conversation in (gone, kept):
            answer = await answer_to(service, conversation, "hi")
            await service.feedback(USER, conversation, answer, Feedback("up"))
        before = await all_rows(service.store)
        await service.delete(USER, gone)
        after = await all_rows(service.store)
    halved = ("conversations", "nodes", "answers", "heads", "feedback")
    assert all(2 * len(after[name]) == len(before[name]) > 0 for name in halved)


async def held_about(service: ChatService, conversation: str, answer: str) -> list[str]:
    """Name the memories of the process that hold something of a conversation."""
    live = service.lasting.live
    held = {
        "path": [key for key in service.lasting.paths._paths if key[0] == conversation],
        "answer": [key for key in service.answers._answers if key.conversation == conversation],
        "key": conversation in service.store.keys._remembered,
        "log": answer in live._logs._logs,  # type: ignore[attr-defined]
    }
    return [name for name, found in held.items() if found]


@pytest.mark.parametrize("whole", [False, True], ids=["the conversation", "the person"])
async def test_no_memory_of_the_process_holds_what_was_deleted(database: str, whole: bool) -> None:
    async with opened() as service:
        conversation = await service.begin(USER)
        answer = await answer_to(service, conversation, "hi", EXACT)
        await answer_to(service, conversation, "again", EXACT)
        held = await held_about(service, conversation, answer)
        assert held == ["path", "answer", "key", "log"]
        if whole:
            await service.delete_user(USER)
        else:
            await service.delete(USER, conversation)
        assert not await held_about(service, conversation, answer)


async def test_no_memory_of_the_process_holds_what_has_expired(database: str) -> None:
    async with opened() as service:
        conversation = await service.begin(USER)
        answer = await answer_to(service, conversation, "hi", EXACT)
        await service.set_retention(USER, 30)
        assert await service.expire(LATE) == (conversation,)
        # The log of an answer that is over goes by itself, after a minute.
        assert await held_about(service, conversation, answer) == ["log"]


@pytest.mark.lengthy
async def test_an_answer_that_is_being_written_ends_with_its_conversation(database: str) -> None:
    script = Script(answer=lambda _: "word " * 2000, token_seconds=0.01)
    async with opened(script) as service:
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "go", SCRIPTED)
        await service.delete(USER, conversation)
        assert await filled(service.store) == {"users", "audit"}
        with pytest.raises(NotFound):
            await watched(service, conversation, turn.answer)


async def test_deleting_twice_says_that_there_is_no_such_conversation(database: str) -> None:
    async with opened_store() as store:
        gone = await begun(store)
        await store.erasure.conversation(USER, gone)
        with pytest.raises(NotFound, match=gone):
            await store.erasure.conversation(USER, gone)


@pytest.mark.lengthy
async def test_a_fork_outlives_what_it_was_forked_from(database: str) -> None:
    async with opened() as service:
        original = await service.begin(USER)
        answer = await answer_to(service, original, "hi")
        fork = await service.fork(USER, original, answer)
        await service.delete(USER, original)
    async with opened() as service:
        found = await service.conversation(USER, fork)
        assert found.forked_from == (original, answer)
        assert await texts(service.store, fork, found.head) == ["hi", "You said: hi"]


async def test_the_list_of_erasures_holds_no_names(database: str) -> None:
    async with opened_store() as store:
        gone = await begun(store)
        await store.erasure.user(USER)
        listed = await store.keys.erased()
        assert {store.keys.pseudonym(gone), store.keys.pseudonym(USER)} < listed
        # By equality: three letters may stand in a pseudonym by chance.
        assert not listed & {USER, gone}
    keys = Path(urlsplit(settings().keys).path).read_bytes()
    assert gone.encode() not in keys
