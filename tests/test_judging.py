"""A model as judge, on judges whose bias is known."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from test_evaluation import run, suite

from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.errors import InputError
from chatkit.evaluation.judging import (
    Judged,
    Judgement,
    agreement,
    judge_runs,
    rubric_scores,
    win_rate_at_even_length,
)
from chatkit.evaluation.record import Run
from chatkit.evaluation.running import Asking

pytestmark = pytest.mark.lengthy
Judge = Callable[[str, str], str]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Run, Run]:
    """Answers of which the new ones are longer in two of three samples, and right in all."""
    questions = suite(tmp_path)

    def longer(question: str) -> str:
        number = int(question.removeprefix("say "))
        return f"{number}" if number % 3 == 0 else f"well, it is {number}"

    def old(question: str) -> str:
        number = int(question.removeprefix("say "))
        return f"it is maybe {number}" if number % 3 == 0 else f"no {number}"

    asking = Asking()
    return run(questions, tmp_path / "old", old, asking), run(
        questions, tmp_path / "new", longer, asking
    )


def judging(decide: Judge) -> ScriptedEngine:
    """Make a judge that decides by the two answers."""

    def answer(asked: str) -> str:
        first = asked.split("[Answer A]\n")[1].split("\n\n[Answer B]")[0]
        second = asked.split("[Answer B]\n")[1].split("\n\nGive your")[0]
        return f"I think so. {decide(first, second)}"

    return ScriptedEngine(Script(answer=answer), "scripted:judge")


def judged(decide: Judge, runs: tuple[Run, Run]) -> Judgement:
    return asyncio.run(judge_runs(judging(decide), *runs))


def longest(first: str, second: str) -> str:
    return "[[A]]" if len(first) > len(second) else "[[B]]"


def test_a_judge_that_likes_the_first_answer_finds_no_winner(runs: tuple[Run, Run]) -> None:
    found = judged(lambda first, second: "[[A]]", runs)
    assert found.win_rate == 0.5 and found.swayed == 1.0


def test_a_judge_of_substance_is_not_swayed(runs: tuple[Run, Run]) -> None:
    found = judged(
        lambda first, second: "[[B]]" if "no " in first or "maybe" in first else "[[A]]", runs
    )
    assert found.win_rate == 1.0 and found.swayed == 0.0
    assert found.even_length_win_rate == pytest.approx(1.0, abs=0.02)


def test_a_judge_of_length_is_seen_through(tmp_path: Path) -> None:
    questions = suite(tmp_path)

    def said(times: int, over: int, more: int) -> Callable[[str], str]:
        def answer(question: str) -> str:
            number = int(question.removeprefix("say "))
            return f"{number} " + "so " * (more + number * times % over)

        return answer

    old = run(questions, tmp_path / "old", said(7, 23, 0), Asking())
    new = run(questions, tmp_path / "new", said(5, 29, 4), Asking())
    found = judged(longest, (old, new))
    # Longer answers win always, which looks like a better model.
    assert found.win_rate is not None and found.win_rate > 0.65
    assert found.even_length_win_rate == pytest.approx(0.5, abs=0.1)


def test_no_verdict_is_counted_and_never_guessed(runs: tuple[Run, Run]) -> None:
    found = judged(lambda first, second: "It depends." if "0" in first else "[[B]]", runs)
    assert found.failed > 0 and len(found.wins) + found.failed == len(found.judged)
    silent = judged(lambda first, second: "Both are fine.", runs)
    assert silent.win_rate is None and silent.failed == len(silent.judged)


def test_the_last_mark_counts(runs: tuple[Run, Run]) -> None:
    found = judged(lambda first, second: "[[A]] at first sight, but no: [[C]]", runs)
    assert found.win_rate == 0.5 and found.swayed == 0.0


def test_judges_agree_beyond_chance_or_not(runs: tuple[Run, Run]) -> None:
    first = judged(longest, runs)
    assert agreement(first, first) == pytest.approx(1.0)
    people = {one.sample: 1 - (one.won or 0.0) for one in first.judged}
    agreed = agreement(first, people)
    assert agreed is not None and agreed < 0
    with pytest.raises(InputError, match="nothing in common"):
        agreement(first, {"elsewhere": 1.0})


def test_points_by_a_rubric_are_read_or_missing(runs: tuple[Run, Run]) -> None:
    def answer(asked: str) -> str:
        return "[[11]]" if "say 7\n" in asked else "Good. [[8]]"

    judge = ScriptedEngine(Script(answer=answer))
    points = asyncio.run(rubric_scores(judge, runs[1], "Is it right?"))
    assert points["8"] is None and points["1"] == 8


def test_length_that_says_nothing_changes_nothing() -> None:
    won = [1.0, 1.0, 1.0, 0.0] * 25
    longer = [10, -10, 0, 0] * 25
    assert win_rate_at_even_length(won, longer) == pytest.approx(0.7, abs=0.08)
    assert win_rate_at_even_length([0.5] * 10, [0] * 10) == pytest.approx(0.5)


def test_the_same_answer_is_a_tie_without_being_asked(runs: tuple[Run, Run]) -> None:
    found = asyncio.run(judge_runs(judging(longest), runs[0], runs[0]))
    assert found.judged[0] == Judged(found.judged[0].sample, 0.5, False, 0)
