"""Blind votes on a comparison, a judge's verdicts, and the table of criteria."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browser import chromium
from playwright.sync_api import Page
from test_evaluation import run, suite

import chatkit
from chatkit import Comparison
from chatkit.background import wait_for
from chatkit.comparison.result import Ballot
from chatkit.comparison.voting import Voting
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.errors import InputError
from chatkit.evaluation.running import Asking
from chatkit.service import shared_service
from chatkit.shelf import LOCAL_USER
from chatkit.stats.ratings import Vote

MODELS = ["scripted:", "scripted:other"]
WIDGET = Path(chatkit.__file__).parent / "comparison"


@pytest.fixture
def compared() -> Comparison:
    """Three prompts; on one of them both answers are the same."""
    found = chatkit.compare(MODELS, ["one", "two", "three"], price=3.6)
    for place in (0, 1):
        found.replies[place, "scripted:other"].text = f"other {place}"
    return found


def stored() -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        return await (await shared_service(titles=False)).votes(LOCAL_USER)

    return wait_for(ask())


def test_equal_answers_are_not_voted_on(compared: Comparison) -> None:
    voting = Voting(compared, seed=1)
    assert sorted(pair.prompt for pair in voting.pairs) == [0, 1]


def test_order_and_sides_are_drawn_by_the_seed(compared: Comparison) -> None:
    drawn = {tuple(Voting(compared, seed).pairs) for seed in range(100)}
    assert len(drawn) == 8 and Voting(compared, 3).pairs == Voting(compared, 3).pairs


def test_a_vote_goes_into_the_comparison_and_into_the_store(compared: Comparison) -> None:
    voting = Voting(compared, seed=1)
    pair = voting.current
    assert pair is not None
    voting.choose("left")
    (ballot,), (record,) = compared.ballots, stored().values()
    assert ballot.vote == (pair.left, pair.right, 1.0) and ballot.blind
    assert (record.first, record.second, record.won, record.blind) == (*pair[1:], 1.0, True)
    assert record.first_answer == compared.replies[pair.prompt, pair.left].text


def test_a_vote_is_taken_back_everywhere_and_a_skipped_pair_has_none(compared: Comparison) -> None:
    voting = Voting(compared, seed=1)
    voting.choose("tie")
    voting.choose("skip")
    assert voting.current is None and len(stored()) == 1
    voting.undo()
    voting.undo()
    voting.undo()
    assert voting.place == 0 and compared.ballots == [] and stored() == {}


def test_what_was_voted_on_is_not_asked_again(compared: Comparison) -> None:
    compared.prefer(0, *MODELS, 1)
    assert [pair.prompt for pair in Voting(compared).pairs] == [1]
    compared.prefer(1, *reversed(MODELS), 1)
    assert Voting(compared).current is None
    with pytest.raises(InputError, match="All pairs are voted on"):
        Voting(compared).choose("left")


@pytest.mark.lengthy
def test_the_widget_tells_no_names_before_the_end(compared: Comparison) -> None:
    widget = compared.vote(seed=1)
    assert not any(model in json.dumps(widget.pair) for model in MODELS) and widget.result == ""
    for choice in ("left", "nonsense", "right", "right"):
        widget._handle_custom_msg({"choice": choice}, [])
    assert len(compared.ballots) == 2
    assert all(model in widget.result for model in MODELS)


def test_a_vote_that_cannot_be_stored_keeps_its_pair(
    compared: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = compared.vote(seed=1)

    def refuse(*_: object, **__: object) -> None:
        raise InputError("The disk is full; make room.")

    monkeypatch.setattr(Comparison, "prefer", refuse)
    widget._handle_custom_msg({"choice": "left"}, [])
    assert widget.error == "The disk is full; make room." and widget.pair["place"] == 0


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page()


PAGE = """
<!doctype html><html><style>%s</style><div id="root"></div><script type="module">
%s
window.sent = []; window.heard = {}; window.escaped = 0;
window.addEventListener("keydown", () => window.escaped++);
window.state = { pair: %s, result: "", error: "" };
const model = {
  get: (name) => window.state[name], send: (message) => window.sent.push(message),
  on: (name, call) => { window.heard[name] = call; }, off: () => {},
};
widget.render({ model, el: document.getElementById("root") });
</script></html>
"""


@pytest.mark.browser
def test_keys_and_buttons_choose_and_the_notebook_hears_none_of_them(
    page: Page, compared: Comparison
) -> None:
    script = (WIDGET / "vote_widget.js").read_text().replace("export default", "const widget =")
    style = (WIDGET / "vote_widget.css").read_text()
    page.set_content(PAGE % (style, script, json.dumps(compared.vote(seed=1).pair)))
    for key in ("1", "ArrowRight", "0", "s", "u", "x"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Right is better").click()
    sent = [one["choice"] for one in page.evaluate("window.sent")]
    assert sent == ["left", "right", "tie", "skip", "undo", "right"]
    assert page.evaluate("window.escaped") == 1
    assert page.get_by_role("status").inner_text() == "Pair 1 of 2"
    assert page.get_by_role("button", name="Back").is_disabled()
    page.evaluate("""() => {
        Object.assign(window.state, { pair: { place: 2, count: 2 }, result: "<b>done</b>" });
        window.heard["change:pair"]();
    }""")
    assert page.get_by_role("button", name="Left is better").is_disabled()
    assert page.locator(".result b").inner_text() == "done"


def open_judge(decide: Callable[[str, str], str]) -> Callable[..., ScriptedEngine]:
    def answer(asked: str) -> str:
        first = asked.split("[Answer A]\n")[1].split("\n\n[Answer B]")[0]
        second = asked.split("[Answer B]\n")[1].split("\n\nGive your")[0]
        return decide(first, second)

    return lambda name, options: ScriptedEngine(Script(answer=answer), name)


@pytest.mark.lengthy
def test_a_judges_votes_stand_apart_from_peoples(
    compared: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    def others(first: str, second: str) -> str:
        return "[[A]]" if first.startswith("other") else "[[B]]"

    monkeypatch.setattr("chatkit.models.open_engine", open_judge(others))
    said = compared.judge("scripted:judge").loc["scripted:other"]
    assert (said["pairs"], said["no verdict"], said["followed the order"]) == (3, 0, 0.0)
    assert said["wins"] == pytest.approx(2.5 / 3)
    assert next(iter(compared.ratings("scripted:judge"))) == "scripted:other"
    assert stored() == {}
    with pytest.raises(InputError, match="no votes"):
        compared.ratings()
    compared.prefer(0, *MODELS, 0)
    compared.prefer(2, *MODELS, 0.5)
    assert compared.agreement("scripted:judge") == 1.0
    with pytest.raises(InputError, match="nothing in common"):
        compared.agreement("scripted:judge", "nobody")


def test_a_judge_of_one_model_is_refused() -> None:
    with pytest.raises(InputError, match="compares two models"):
        chatkit.compare(["scripted:"], ["hi"]).judge("scripted:")


def test_ballots_of_both_kinds_are_saved(compared: Comparison, tmp_path: Path) -> None:
    compared.prefer(0, *MODELS, 1, blind=True)
    compared.ballots.append(Ballot(1, Vote(*MODELS, 0.5), "judge", "it", True))
    compared.save(tmp_path / "it.json")
    assert Comparison.load(tmp_path / "it.json") == compared


def test_the_price_of_the_machine_tells_what_tokens_cost(compared: Comparison) -> None:
    row = compared.summary.loc["scripted:"]
    assert row["per million tokens"] == pytest.approx(1e3 / row["tokens/s"], abs=0.01)
    assert "for a million tokens" in compared.to_html()


def test_each_criterion_names_its_evidence(compared: Comparison, tmp_path: Path) -> None:
    questions = suite(tmp_path, name="reasoning")
    run(questions, tmp_path / "runs" / "scripted:", asking=Asking())
    cells = compared.criteria(tmp_path / "runs").cells["scripted:"]
    assert cells["reasoning"].share is not None
    assert Path(unquote(cells["reasoning"].link)).read_text().startswith("<!doctype html>")
    assert cells["knowledge"].share is None
    assert cells["knowledge"].evidence == "python -m eval run knowledge --model scripted:"
    assert cells["licence"].said == "–"


def test_a_known_model_has_its_licence_and_links_to_it() -> None:
    compared = Comparison(("smollm2-135m",), ())
    cell = compared.criteria("nowhere").cells["smollm2-135m"]["licence"]
    assert (cell.said, cell.share) == ("Apache-2.0", 1.0)
    assert f"<a href='{cell.link}'>" in compared.criteria("nowhere").to_html()


def test_the_radar_has_a_line_for_each_model_and_gaps_for_what_nobody_measured(
    compared: Comparison, tmp_path: Path
) -> None:
    picture = compared.criteria(tmp_path).plot()
    (axes,) = picture.axes
    assert [line.get_label() for line in axes.get_lines()] == MODELS
    assert list(compared.criteria(tmp_path).frame.columns) == [
        "conversation", "instructions", "reasoning", "knowledge", "speed", "memory", "licence",
    ]  # fmt: skip
