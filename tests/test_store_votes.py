"""Votes: one kind of record, sealed for its voter, gone with them."""

import pytest
from scripted_service import USER, opened
from stores import opened_store, rows, sealed_values

from chatkit.errors import InputError, NotFound
from chatkit.messages import user
from chatkit.store.records import VoteRecord

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

VOTE = VoteRecord((user("markerquestion"),), "a", "b", "markerone", "markertwo", 1.0, True)


async def test_a_vote_is_read_back_as_it_was_cast(database: str) -> None:
    async with opened() as service:
        first = await service.vote(USER, VOTE)
        second = await service.vote(USER, VoteRecord((user("x"),), "b", "a", "y", "z", 0.5, False))
        found = await service.votes(USER)
        assert list(found) == [first, second] and found[first] == VOTE


async def test_nobody_sees_or_takes_back_the_votes_of_others(database: str) -> None:
    async with opened() as service:
        vote = await service.vote(USER, VOTE)
        assert await service.votes("bob") == {}
        with pytest.raises(NotFound):
            await service.take_back_vote("bob", vote)
        await service.take_back_vote(USER, vote)
        assert await service.votes(USER) == {}
        with pytest.raises(NotFound, match="taken back already"):
            await service.take_back_vote(USER, vote)


async def test_what_was_asked_and_answered_is_sealed(database: str) -> None:
    async with opened_store() as store:
        await store.votes.cast(USER, VOTE)
        assert len(await sealed_values(store)) == 1
        assert all(b"marker" not in value for value in await sealed_values(store))


async def test_votes_go_with_their_voter(database: str) -> None:
    async with opened() as service:
        await service.vote(USER, VOTE)
        await service.vote("bob", VOTE)
        await service.delete_user(USER)
        assert [who for (who,) in await rows(service.store, "SELECT user_id FROM votes")] == ["bob"]


@pytest.mark.parametrize(
    ("vote", "why"),
    [
        (lambda: VoteRecord((user("x"),), "a", "a", "", "", 1, False), "two models"),
        (lambda: VoteRecord((user("x"),), "a", "b", "", "", 0.7, False), "1, 0 or 0.5"),
    ],
)
def test_a_vote_that_says_nothing_is_refused(vote, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=why):
        vote()


async def test_a_vote_that_is_no_text_is_refused(database: str) -> None:
    async with opened() as service:
        with pytest.raises(InputError, match="NUL"):
            await service.vote(USER, VoteRecord((user("x\0"),), "a", "b", "", "", 1, False))
