"""What belongs to another does not exist: every method of the service says so in the same words."""

import inspect

import pytest
from scripted_service import SCRIPTED, USER, opened
from stores import CALLS, OF_NODES, all_rows, answer_to

from chatkit.chat import ChatService
from chatkit.errors import NotFound

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

STRANGER = "bob"
# They name no conversation: what they give and change is the user's own.
OWN = {
    "begin",
    "conversations",
    "conversations_named",
    "search",
    "import_conversations",
    "delete_user",
    "set_retention",
    "preferences",
    "prefer",
    "vote",
    "votes",
    "take_back_vote",
}


def test_no_method_of_the_service_is_left_out() -> None:
    with_user = {
        name
        for name, method in inspect.getmembers(ChatService, inspect.isfunction)
        if not name.startswith("_") and "user" in inspect.signature(method).parameters
    }
    assert with_user == CALLS.keys() | OWN


@pytest.mark.lengthy
@pytest.mark.parametrize("temporary", [False, True], ids=["kept", "temporary"])
async def test_what_is_anothers_is_refused_as_what_does_not_exist(
    database: str, temporary: bool
) -> None:
    async with opened() as service:
        conversation = await service.begin(USER, temporary=temporary)
        answer = await answer_to(service, conversation, "hi")
        await service.begin(STRANGER, temporary=temporary)
        store = service.room(conversation).store
        before = await all_rows(store)
        missing = conversation[:4] + "0" * len(conversation[4:])
        sentence = "There is no conversation {!r} of yours; see the list of conversations."
        for name, call in CALLS.items():
            for id in (conversation, missing):
                with pytest.raises(NotFound) as refused:
                    await call(service, STRANGER, id, answer)
                assert str(refused.value) == sentence.format(id), name
            assert await all_rows(store) == before, name


async def test_a_message_of_another_conversation_is_refused_as_one_that_does_not_exist(
    database: str,
) -> None:
    async with opened() as service:
        hers, his = await service.begin(USER), await service.begin(STRANGER)
        answer = await answer_to(service, hers, "hi")
        own = await answer_to(service, his, "hi", user=STRANGER)
        other = await answer_to(service, await service.begin(STRANGER), "hi", user=STRANGER)
        before = await all_rows(service.store)
        sentence = "There is no message {!r} in this conversation; see its path."
        for name in OF_NODES:
            for node in (answer, other, "0" * 16):
                with pytest.raises(NotFound) as refused:
                    await CALLS[name](service, STRANGER, his, node)
                assert str(refused.value) == sentence.format(node), name
            assert await all_rows(service.store) == before, name
        assert await service.ledger(STRANGER, his, answer) is None
        assert await service.ledger(STRANGER, his, own) is not None


@pytest.mark.parametrize("where", ["parent", "head"])
async def test_a_place_in_another_conversation_is_refused(database: str, where: str) -> None:
    async with opened() as service:
        hers, his = await service.begin(USER), await service.begin(STRANGER)
        answer = await answer_to(service, hers, "hi")
        before = await all_rows(service.store)
        with pytest.raises(NotFound, match=answer):
            if where == "parent":
                await service.send(STRANGER, his, "x", SCRIPTED, parent=answer)
            else:
                await service.page(STRANGER, his, head=answer)
        assert await all_rows(service.store) == before


async def test_lists_searches_and_exports_hold_only_ones_own(database: str) -> None:
    async with opened() as service:
        hers, his = await service.begin(USER), await service.begin(STRANGER)
        await answer_to(service, hers, "a secret")
        assert [one.id for one in await service.conversations(STRANGER)] == [his]
        assert [one.id for one in await service.export(STRANGER)] == [his]
        assert await service.search(STRANGER, "secret") == ()
        assert await service.search(USER, "secret")


@pytest.mark.lengthy
async def test_deleting_a_person_leaves_others_alone(database: str) -> None:
    async with opened() as service:
        hers, his = await service.begin(USER), await service.begin(STRANGER)
        await answer_to(service, hers, "hi")
        await answer_to(service, his, "ho", user=STRANGER)
        page = await service.page(USER, hers)
        await service.delete_user(STRANGER)
        assert await service.page(USER, hers) == page
        assert not await service.conversations(STRANGER)


async def test_nobody_finds_others_conversations_by_their_names(database: str) -> None:
    async with opened() as service:
        mine, other = await service.begin(USER), await service.begin(STRANGER)
        found = await service.conversations_named(USER, [mine, other, "nothing"])
        assert [one.id for one in found] == [mine]
