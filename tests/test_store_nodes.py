"""Messages and the trees that they make."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scripted_service import SCRIPTED, USER, opened
from stores import answer_to, begun, chain, opened_store, run_together, texts

from chatkit.errors import NotFound
from chatkit.exchange.portable import Portable
from chatkit.messages import user as said_by_user
from chatkit.store.new_node import NewNode
from chatkit.store.opening import Store

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

DEEP = 10_000
SEND = """
import asyncio, json, sys
from chatkit.messages import user
from chatkit.settings import settings
from chatkit.store.new_node import NewNode
from chatkit.store.opening import open_store

async def main(conversation):
    store = await open_store(settings())
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(20):
        new = [NewNode(user("x"), None, f"client {number}")]
        print(*await store.nodes.add("ada", conversation, new))
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


def question(text: str, parent: str | None = None, client_id: str | None = None) -> NewNode:
    return NewNode(said_by_user(text), parent, client_id)


async def plant(store: Store, conversation: str, parents: Sequence[int | None]) -> list[str]:
    """Make a tree: each message names its parent by place, None for one at the beginning."""
    new: list[NewNode] = []
    for number, parent in enumerate(parents):
        new.append(question(f"text {number}", None if parent is None else new[parent].id))
    return list(await store.nodes.add(USER, conversation, new, head=new[-1].id))


def shape(portable: Portable) -> list[Any]:
    """Give a tree without the names that an import gives anew."""
    place = {node.id: number for number, node in enumerate(portable.nodes)}
    nodes = [
        (None if node.parent is None else place[node.parent], node.message, node.created)
        for node in portable.nodes
    ]
    return [nodes, portable.head and place[portable.head], portable.title, portable.system]


async def test_the_same_message_sent_by_two_at_once_is_one(store: Store) -> None:
    conversation = await begun(store)
    sendings = (store.nodes.add(USER, conversation, [question("x", None, "one")]) for _ in range(8))
    assert len({names for names in await asyncio.gather(*sendings)}) == 1
    assert len(await store.nodes.tree(USER, conversation)) == 1


@pytest.mark.lengthy
async def test_the_same_messages_sent_by_two_processes_at_once_are_one_each(store: Store) -> None:
    conversation = await begun(store)
    first, second = await asyncio.to_thread(run_together, SEND, conversation)
    assert first == second and len(set(first)) == 20
    assert len(await store.nodes.tree(USER, conversation)) == 20


async def test_only_the_same_client_id_in_the_same_conversation_is_the_same_message(
    store: Store,
) -> None:
    here, there = await begun(store), await begun(store)
    for conversation, client_id in ((here, "one"), (there, "one"), (here, None), (here, None)):
        await store.nodes.add(USER, conversation, [question("x", None, client_id)])
    assert len(await store.nodes.tree(USER, here)) == 3
    assert len(await store.nodes.tree(USER, there)) == 1


async def test_siblings_stand_in_the_order_in_which_they_came(store: Store) -> None:
    conversation = await begun(store)
    root, *children, grandchild = await plant(store, conversation, [None, 0, 0, 0, 2])
    found = await store.nodes.siblings(USER, conversation, {None, root, grandchild})
    assert found == {None: (root,), root: tuple(children), grandchild: ()}


async def test_a_branch_ends_at_its_newest_leaf(store: Store) -> None:
    conversation = await begun(store)
    names = await plant(store, conversation, [None, 0, 0, 1, 1, 3, 2])
    leaves = [await store.nodes.leaf(USER, conversation, name) for name in names]
    # 0 leads by its newest child 2 to 6; 1 by its newest child 4; 3 to 5.
    assert leaves == [names[place] for place in (6, 4, 6, 5, 4, 5, 6)]


async def test_readers_stand_where_they_put_themselves(store: Store) -> None:
    conversation = await begun(store)
    names = await plant(store, conversation, [None, 0, 0])
    for head in (names[1], None, names[2]):
        await store.nodes.set_head(USER, conversation, head)
        assert (await store.conversations.find(USER, conversation)).head == head


async def test_two_that_follow_the_same_message_become_siblings(store: Store) -> None:
    conversation = await begun(store)
    (root,) = await store.nodes.add(USER, conversation, [question("root")])
    await asyncio.gather(
        *(store.nodes.add(USER, conversation, [question(str(n), root)]) for n in range(6))
    )
    found = await store.nodes.siblings(USER, conversation, {root})
    assert len(found[root]) == 6


@pytest.mark.lengthy
async def test_a_path_of_ten_thousand_is_read_from_its_end(store: Store) -> None:
    conversation = await begun(store)
    names = await chain(store, conversation, [str(number) for number in range(DEEP)])
    for limit in (30, 2 * DEEP):
        path = await store.nodes.path(USER, conversation, names[-1], limit)
        assert [node.id for node in path] == list(names[-limit:])
    assert await store.nodes.leaf(USER, conversation, names[0]) == names[-1]


@pytest.mark.lengthy
async def test_a_tree_of_ten_thousand_goes_out_and_comes_in(own_home: Path) -> None:
    async with opened() as service:
        conversation = await service.begin(USER)
        names = await chain(service.store, conversation, [str(number) for number in range(DEEP)])
        (portable,) = await service.export(USER, [conversation])
        (copy,) = await service.import_conversations(USER, [portable])
        (again,) = await service.export(USER, [copy])
        assert shape(again) == shape(portable) and len(again.nodes) == len(names)


@pytest.mark.lengthy
@hypothesis_settings(
    max_examples=5,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(draws=st.lists(st.integers(0, 10**6), min_size=1, max_size=25))
async def test_a_path_is_exactly_the_chain_of_parents_and_an_import_an_equal_tree(
    database: str, draws: list[int]
) -> None:
    parents = [None if draw % (n + 1) == n else draw % (n + 1) for n, draw in enumerate(draws)]
    async with opened() as service:
        conversation = await service.begin(USER)
        names = await plant(service.store, conversation, parents)
        for number, name in enumerate(names):
            expected: list[str] = []
            place: int | None = number
            while place is not None:
                expected.insert(0, names[place])
                place = parents[place]
            path = await service.store.nodes.path(USER, conversation, name)
            assert [node.id for node in path] == expected
        (portable,) = await service.export(USER, [conversation])
        (copy,) = await service.import_conversations(USER, [portable])
        (again,) = await service.export(USER, [copy])
        assert shape(again) == shape(portable)
        await service.delete(USER, conversation)
        await service.delete(USER, copy)


async def test_everything_that_is_known_of_a_tree_travels(database: str) -> None:
    async with opened() as service:
        conversation = await service.begin(USER, title="tides")
        answer = await answer_to(service, conversation, "hi")
        await service.pin(USER, conversation, answer)
        (portable,) = await service.export(USER, [conversation])
        (copy,) = await service.import_conversations(USER, [portable])
        (again,) = await service.export(USER, [copy])
    node, came = portable.nodes[-1], again.nodes[-1]
    assert came.pinned and came.facts == node.facts and node.facts["status"] == "done"
    assert portable.created == again.created <= datetime.now(UTC)


async def test_a_message_of_another_tree_is_no_parent(store: Store) -> None:
    here, there = await begun(store), await begun(store)
    (name,) = await store.nodes.add(USER, there, [question("x")])
    with pytest.raises(NotFound, match=name):
        await store.nodes.add(USER, here, [question("y", name)])
    assert await store.nodes.tree(USER, here) == ()


@pytest.mark.lengthy
async def test_an_answer_sent_again_while_it_runs_is_the_same(database: str) -> None:
    async with opened() as service:
        conversation = await service.begin(USER)
        turns = await asyncio.gather(
            *(service.send(USER, conversation, "hi", SCRIPTED, client_id="one") for _ in range(4))
        )
        assert len(set(turns)) == 1


async def test_what_is_stored_is_there_for_the_next_process(database: str) -> None:
    async with opened_store() as store:
        conversation = await begun(store)
        names = await chain(store, conversation, ["one", "two"])
    async with opened_store() as store:
        assert await texts(store, conversation, names[-1]) == ["one", "two"]
