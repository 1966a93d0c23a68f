"""Deleting a branch: what goes, where its reader then stands, and that it stays away."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_service import SCRIPTED, USER, opened, slow_script
from stores import begun, opened_store, rows, texts

from chatkit.errors import NotFound
from chatkit.messages import user as said_by_user
from chatkit.settings import settings
from chatkit.store.backup import back_up
from chatkit.store.new_node import NewNode
from chatkit.store.opening import Store, open_temporary_store
from chatkit.store.restore import restore
from chatkit.store.verify import verify

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio


async def grown(store: Store, talk: str, *texts: str, parent: str | None = None) -> list[str]:
    """Add messages, each after the one before it, and let the reader stand at the last."""
    ids: list[str] = []
    for text in texts:
        new = NewNode(said_by_user(text), ids[-1] if ids else parent)
        ids += await store.nodes.add(USER, talk, [new], head=new.id)
    return ids


async def test_a_message_goes_with_all_that_came_after_it(store: Store) -> None:
    talk = await begun(store)
    path = await grown(store, talk, "one", "two", "three")
    await store.pruning.branch(USER, talk, path[1])
    assert [node.id for node in await store.nodes.tree(USER, talk)] == [path[0]]
    found = await store.conversations.find(USER, talk)
    assert await texts(store, talk, found.head) == ["one"]
    assert not (await verify(store)).broken


async def test_the_reader_goes_to_the_end_of_the_newest_branch_beside(store: Store) -> None:
    talk = await begun(store)
    (root,) = await grown(store, talk, "root")
    old = await grown(store, talk, "old", "older still", parent=root)
    new = await grown(store, talk, "new", "newer still", parent=root)
    await store.nodes.set_head(USER, talk, new[-1])
    await store.pruning.branch(USER, talk, new[0])
    assert (await store.conversations.find(USER, talk)).head == old[-1]


async def test_without_its_only_question_a_conversation_is_empty(store: Store) -> None:
    talk = await begun(store)
    path = await grown(store, talk, "one", "two")
    await store.pruning.branch(USER, talk, path[0])
    assert (await store.conversations.find(USER, talk)).head is None
    assert await store.nodes.tree(USER, talk) == ()


async def test_who_reads_elsewhere_stays_there(store: Store) -> None:
    talk = await begun(store)
    (root,) = await grown(store, talk, "root")
    one = await grown(store, talk, "one", parent=root)
    two = await grown(store, talk, "two", parent=root)
    await store.nodes.set_head(USER, talk, one[-1])
    await store.pruning.branch(USER, talk, two[0])
    assert (await store.conversations.find(USER, talk)).head == one[-1]


async def test_what_is_not_there_is_not_deleted(store: Store) -> None:
    talk, other = await begun(store), await begun(store)
    (node,) = await grown(store, other, "x")
    for wrong in ((USER, talk, node), (USER, talk, "nothing"), ("bob", other, node)):
        with pytest.raises(NotFound):
            await store.pruning.branch(*wrong)
    assert len(await store.nodes.tree(USER, other)) == 1


@pytest.mark.lengthy
async def test_a_restored_backup_loses_it_again(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_store() as store:
        talk = await begun(store)
        path = await grown(store, talk, "one", "two", "three")
        await back_up(store, tmp_path / "backup.zip", USER)
        await store.pruning.branch(USER, talk, path[1])
    monkeypatch.setenv("CHATKIT_DATABASE_URL", f"sqlite:///{tmp_path}/elsewhere.db")
    await restore(settings(), tmp_path / "backup.zip", USER)
    async with opened_store() as store:
        assert [node.id for node in await store.nodes.tree(USER, talk)] == [path[0]]
        assert (await store.conversations.find(USER, talk)).head == path[0]
        actions = [entry["action"] for entry in await store.audit.entries()]
        assert actions[-2:] == ["delete branch", "restore"]


@pytest.mark.lengthy
async def test_an_answer_under_way_is_stopped_and_others_go_on(database: str) -> None:
    async with opened(slow_script(0.003)) as service:
        talk = await service.begin(USER)
        first = await service.send(USER, talk, "one", SCRIPTED)
        second = await service.regenerate(USER, talk, first.answer, SCRIPTED)
        await service.delete_branch(USER, talk, second.answer)
        left = await service.store.nodes.tree(USER, talk)
        assert [node.id for node in left] == [first.question, first.answer]
        async for _ in service.subscribe(USER, talk, first.answer):
            pass
        found = await service.store.nodes.find(USER, talk, first.answer)
        assert found.facts is not None and found.facts.status == "done"


async def test_in_the_clear_its_words_are_found_no_more(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_ENCRYPTION", "off")
    async with opened_store() as store:
        talk = await begun(store)
        path = await grown(store, talk, "volcano", "glacier")
        await store.pruning.branch(USER, talk, path[1])
        assert await store.search.find(USER, "glacier", 5) == ()
        assert len(await store.search.find(USER, "volcano", 5)) == 1
        assert len(await rows(store, "SELECT * FROM node_text")) == 1


@pytest.mark.slow
@pytest.mark.lengthy
@given(draws=st.lists(st.integers(0, 10**6), min_size=1, max_size=12), draw=st.integers(0, 10**6))
async def test_any_tree_loses_one_branch_and_nothing_else(draws: list[int], draw: int) -> None:
    parents = [None if draw % (n + 1) == n else draw % (n + 1) for n, draw in enumerate(draws)]
    store = await open_temporary_store()
    talk, ids = await begun(store), list[str]()
    for parent in parents:
        named = None if parent is None else ids[parent]
        ids += await store.nodes.add(USER, talk, [NewNode(said_by_user("x"), named)])
    chosen = draw % len(ids)

    def is_below(place: int | None) -> bool:
        while place is not None and place != chosen:
            place = parents[place]
        return place == chosen

    await store.pruning.branch(USER, talk, ids[chosen])
    left = {node.id for node in await store.nodes.tree(USER, talk)}
    assert left == {id for place, id in enumerate(ids) if not is_below(place)}
    await store.close()
