"""The arena: rounds, blind votes, what is stored; in a browser and without."""

import pytest
from browser import App, Visit
from playwright.sync_api import expect
from test_app_accessible import violations
from test_app_talk import TOKEN, pages, until

from chatkit.ui.visitor import visitor_of

pytest_plugins = "visiting"

pytestmark = pytest.mark.lengthy
MODELS = ["scripted:", "scripted:other"]


@pytest.mark.anyio
async def test_a_blind_round_tells_names_after_the_vote_only() -> None:
    async with pages() as page:
        one = page()
        one.hear(type="arena", do="ask", models=[*MODELS], text="a tide?", blind=True)
        await until(lambda: _whole(one.boards.bubbles))
        assert one.boards.names == ["Model A", "Model B"]
        assert not any("other" in str(bubble) for bubble in one.boards.bubbles.values())
        one.hear(type="arena", do="vote", best=1)
        await until(lambda: one.boards.result is not None)
        assert one.boards.result is not None
        names, best, notes = one.boards.result
        assert sorted(names) == sorted(MODELS) and best == 1 and len(notes) == 2
        (vote,) = (await one.service.votes(visitor_of(TOKEN))).values()
        assert (vote.first, vote.second, vote.won, vote.blind) == (*names, 0.0, True)
        assert vote.prompt[-1].content == "a tide?" and vote.first_answer == "You said: a tide?"
        assert one.board.items == []


@pytest.mark.anyio
async def test_the_best_of_three_wins_against_each_other_and_no_best_is_all_ties() -> None:
    async with pages() as page:
        one = page()
        for best, wanted in ((0, [1.0, 1.0]), (None, [0.5, 0.5, 0.5])):
            models = [*MODELS, "scripted:third"]
            one.hear(type="arena", do="ask", models=models, text="hi", blind=False)
            await until(
                lambda: (
                    one.boards.result is None
                    and one.boards.names == models  # noqa: B023 (waited for within the loop)
                    and len(one.boards.bubbles) == 3
                    and _whole(one.boards.bubbles)
                )
            )
            assert one.boards.names == models
            one.hear(type="arena", do="vote", best=best)
            await until(lambda: one.boards.result is not None)
            votes = (await one.service.votes(visitor_of(TOKEN))).values()
            assert [vote.won for vote in votes][-len(wanted) :] == wanted


@pytest.mark.anyio
async def test_the_conversations_of_the_last_round_are_let_go() -> None:
    async with pages() as page:
        one = page()
        for text in ("one", "two"):
            one.hear(type="arena", do="ask", models=[*MODELS], text=text, blind=False)
            await until(lambda said=text: said in str(one.boards.bubbles.get(1)))
        kept = await one.service.temporary.store.conversations.page(visitor_of(TOKEN), 9)
        assert len(kept) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"do": "ask", "models": ["scripted:"], "text": "x", "blind": True}, "2 to 4 models"),
        ({"do": "ask", "models": ["scripted:"] * 2, "text": "x", "blind": True}, "each once"),
        ({"do": "ask", "models": MODELS, "text": "  ", "blind": True}, "is empty"),
        (
            {
                "do": "ask",
                "models": ["scripted:", "tgi:http://10.0.0.1"],
                "text": "x",
                "blind": True,
            },
            "tgi:http://10.0.0.1 is not offered here",
        ),
        ({"do": "vote", "best": 0}, "nothing to vote on"),
    ],
)
async def test_a_wish_that_makes_no_sense_is_one_sentence(
    wish: dict[str, object], said: str
) -> None:
    async with pages() as page:
        one = page()
        one.hear(type="arena", **wish)
        await until(lambda: said in one.paper.said)


def _whole(bubbles: dict[int, dict[str, object]]) -> bool:
    return len(bubbles) in (2, 3) and all(bubble["state"] == "done" for bubble in bubbles.values())


@pytest.mark.browser
def test_models_are_compared_on_the_page(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    page = visitor.page
    page.get_by_role("button", name="Compare models").click()
    expect(page.get_by_role("heading", name="Compare models")).to_be_visible()
    expect(visitor.field).not_to_be_visible()
    page.get_by_label("Question to all models").fill("**which** is better?")
    page.keyboard.press("Enter")
    expect(page.locator(".column strong")).to_have_text(["which", "which"])
    assert violations(page) == []
    page.get_by_role("button", name="Model B is best").click()
    expect(page.locator(".column.chosen")).to_have_count(1)
    expect(page.get_by_text("The vote is stored.")).to_be_visible()
    expect(page.locator(".column .name").first).to_contain_text("scripted:")
    page.get_by_role("button", name="Back to the chat").click()
    expect(visitor.field).to_be_visible()
