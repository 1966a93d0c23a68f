"""The audit log: nobody changes it unnoticed, and no name is in it."""

import asyncio

import pytest
from scripted_service import USER, opened
from sqlalchemy.exc import DBAPIError
from stores import answer_to, change

from chatkit.store.audit import Verdict
from chatkit.store.opening import Store

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

CHANGES = {
    "changed": "UPDATE audit SET action = 'export' WHERE number = 3",
    "taken out": "DELETE FROM audit WHERE number = 3",
    "put in between": (
        "INSERT INTO audit SELECT 6, at, actor, action, subject, previous, hash FROM audit "
        "WHERE number = 3"
    ),
}


async def noted(store: Store, count: int = 5) -> None:
    for number in range(count):
        await store.audit.note(USER, "export", f"conversation {number}")


async def unlock(store: Store) -> None:
    """Take away what guards the log, as somebody with all rights can."""
    if store.database.is_sqlite:
        await change(
            store, "DROP TRIGGER audit_refuses_update", "DROP TRIGGER audit_refuses_delete"
        )
    else:
        await change(store, "DROP TRIGGER audit_is_append_only ON audit")


async def test_the_database_refuses_changes(store: Store) -> None:
    await noted(store)
    for statement in ("UPDATE audit SET at = 0", "DELETE FROM audit"):
        with pytest.raises(DBAPIError, match="append-only"):
            await change(store, statement)
    assert await store.audit.verify() == Verdict(5, None)


@pytest.mark.parametrize(
    ("how", "found"),
    [("changed", 3), ("taken out", 3), ("put in between", 6)],
)
async def test_the_chain_shows_what_was_changed(store: Store, how: str, found: int) -> None:
    await noted(store)
    await unlock(store)
    statement = CHANGES[how].replace("'export'", "'delete user'")
    await change(store, statement)
    assert await store.audit.verify() == Verdict(found - 1, found)


async def test_every_field_is_part_of_the_chain(store: Store) -> None:
    await noted(store, 1)
    await unlock(store)
    for field in ("at", "actor", "action", "subject", "previous", "hash"):
        before = (await store.audit.entries())[0][field]
        value = "0" if field == "at" else "'other'"
        await change(store, f"UPDATE audit SET {field} = {value}")
        assert (await store.audit.verify()).broken_at == 1, field
        back = repr(before) if field == "at" else f"'{before}'"
        await change(store, f"UPDATE audit SET {field} = {back}")
        assert await store.audit.verify() == Verdict(1, None)


async def test_entries_that_come_at_once_make_one_chain(store: Store) -> None:
    await asyncio.gather(*(store.audit.note(USER, "export", str(n)) for n in range(12)))
    assert await store.audit.verify() == Verdict(12, None)


async def test_an_empty_log_holds(store: Store) -> None:
    assert await store.audit.verify() == Verdict(0, None)


@pytest.mark.lengthy
async def test_the_log_says_what_was_done_by_pseudonyms_only(database: str) -> None:
    async with opened() as service:
        conversation = await service.begin(USER)
        answer = await answer_to(service, conversation, "hi")
        fork = await service.fork(USER, conversation, answer)
        (portable,) = await service.export(USER, [conversation])
        (copy,) = await service.import_conversations(USER, [portable])
        await service.set_retention(USER, 30)
        await service.delete(USER, fork)
        await service.delete_user(USER, actor="root")
        entries = await service.store.audit.entries()
        pseudonym = service.store.keys.pseudonym
        assert await service.store.audit.verify() == Verdict(len(entries), None)
    assert [(entry["actor"], entry["action"], entry["subject"]) for entry in entries] == [
        (pseudonym(actor), action, pseudonym(subject))
        for actor, action, subject in (
            (USER, "fork", fork),
            (USER, "export", conversation),
            (USER, "import", copy),
            (USER, "set retention", USER),
            (USER, "delete conversation", fork),
            ("root", "delete user", USER),
        )
    ]
    said = repr(entries)
    assert not any(name in said for name in ("root", conversation, fork, copy))
