"""Conversations that go after some days, each user's own way and everybody's."""

import pytest
from scripted_service import USER, opened
from stores import all_rows, answer_to

from chatkit.errors import InputError
from chatkit.store.conversations import NewConversation
from chatkit.store.opening import Store
from chatkit.store.records import ConversationSettings

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

NOW = 2_000_000_000.0
DAY = 86_400.0


async def aged(store: Store, user: str, *days: float) -> list[str]:
    """Begin conversations in which something was last said so many days ago."""
    names: list[str] = []
    for age in days:
        then = NOW - age * DAY
        new = NewConversation(ConversationSettings(), times=(then, then))
        names.append(await store.conversations.begin(user, new))
    return names


@pytest.mark.parametrize(
    ("own", "everybodys", "gone"),
    [
        (None, 20.0, [30, 300]),
        (20.0, 200.0, [30, 300]),
        (200.0, 20.0, [30, 300]),
        (500.0, 200.0, [300]),
        (float("inf"), None, []),
        (0.5, None, [1, 30, 300]),
    ],
)
async def test_the_shorter_retention_wins(
    store: Store, own: float | None, everybodys: float | None, gone: list[int]
) -> None:
    ages = [1, 30, 300]
    names = await aged(store, USER, *ages)
    await store.erasure.set_retention(USER, own)
    expired = await store.erasure.expire(everybodys, NOW)
    assert {ages[names.index(name)] for name in expired} == set(gone)
    left = set(await store.conversations.ids(USER))
    assert left == set(names) - set(expired)


async def test_a_users_own_retention_is_nobody_elses(store: Store) -> None:
    await aged(store, USER, 30)
    (his,) = await aged(store, "bob", 30)
    await store.erasure.set_retention(USER, 10)
    await store.erasure.expire(None, NOW)
    assert await store.conversations.ids(USER) == ()
    assert await store.conversations.ids("bob") == (his,)


async def test_a_retention_that_was_taken_back_deletes_nothing(store: Store) -> None:
    await aged(store, USER, 30)
    for days in (10, None):
        await store.erasure.set_retention(USER, days)
    assert await store.erasure.expire(None, NOW) == ()


async def test_what_expires_is_erased_with_its_key_and_noted(store: Store) -> None:
    (gone,) = await aged(store, USER, 30)
    await store.erasure.expire(10, NOW)
    assert store.keys.pseudonym(gone) in await store.keys.erased()
    assert not (await all_rows(store))["conversations"]
    (entry,) = await store.audit.entries()
    assert entry["action"] == "expire" and entry["subject"] == store.keys.pseudonym(gone)


async def test_a_new_message_keeps_a_conversation(database: str) -> None:
    async with opened() as service:
        conversation = await service.begin(USER)
        await answer_to(service, conversation, "hi")
        updated = (await service.conversation(USER, conversation)).updated
        assert await service.store.erasure.expire(1, updated + 0.9 * DAY) == ()
        assert await service.store.erasure.expire(1, updated + 1.1 * DAY) == (conversation,)


async def test_the_retention_of_the_settings_is_kept_by_the_service(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_RETENTION_DAYS", "20")
    async with opened() as service:
        young, old = await aged(service.store, USER, 1, 30)
        assert await service.expire(NOW) == (old,)
        assert [one.id for one in await service.conversations(USER)] == [young]


async def test_a_retention_that_is_none_is_refused(store: Store) -> None:
    for days in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="number above 0"):
            await store.erasure.set_retention(USER, days)
