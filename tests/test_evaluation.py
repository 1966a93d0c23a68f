"""Suites, runs, comparisons, the gate and the report, on the engine that answers from a script."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chatkit.background import wait_for
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.errors import InputError, NotPulled, Unsupported
from chatkit.evaluation.answering import EngineAnswering
from chatkit.evaluation.comparing import compare_runs, noise_floor
from chatkit.evaluation.gate import Outcome, Policy, judge_gate
from chatkit.evaluation.record import ANSWERS, Run, read_run
from chatkit.evaluation.report import markdown, report_of, write_html
from chatkit.evaluation.running import PATIENCE, Asking, evaluate
from chatkit.evaluation.suite import Questions, find_suite, read_suite
from chatkit.evaluation.weights import weights_of

SUITES = Path(__file__).parent.parent / "eval" / "suites"
COUNT = 60


def suite(
    folder: Path, records: list[Mapping[str, Any]] | None = None, **options: Any
) -> Questions:
    """Write a suite of sums whose answers are numbers, and read it."""
    if records is None:
        records = [
            {"prompt": f"say {n}", "reference": str(n), "half": str(n % 2)} for n in range(COUNT)
        ]
    folder.mkdir(exist_ok=True)
    (folder / "data.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    said = {"name": "sums", "data": "data.jsonl", "scorer": {"kind": "number"}} | options
    (folder / "suite.yaml").write_text(json.dumps(said))
    return read_suite(folder / "suite.yaml")


def right(question: str) -> str:
    return question.removeprefix("say ")


def wrong_below(limit: int) -> Callable[[str], str]:
    """Answer wrongly where the number is below a limit."""
    return lambda question: "-1" if int(right(question)) < limit else right(question)


def run(
    questions: Questions,
    folder: Path,
    answer: Callable[[str], str] = right,
    asking: Asking = Asking(passes=2),  # noqa: B008 (frozen)
    **script: Any,
) -> Run:
    engine = ScriptedEngine(Script(answer=answer, **script))
    answering = EngineAnswering(questions, engine)
    model = f"scripted:{folder.name.removeprefix('scripted:')}"
    return wait_for(evaluate(questions, model, answering, folder, asking))


# Suites


def test_every_suite_that_comes_along_is_whole() -> None:
    found = {path.stem: read_suite(path) for path in SUITES.glob("*.yaml")}
    assert {
        "instructions",
        "reasoning",
        "knowledge",
        "code",
        "conversation",
        "safety",
        "format",
    } <= (set(found))
    assert all(len(questions.samples) >= 12 for questions in found.values())


def test_a_limit_takes_the_same_samples_for_the_same_seed(tmp_path: Path) -> None:
    suite(tmp_path)
    first, again, other = (
        read_suite(tmp_path / "suite.yaml", limit=10, seed=seed) for seed in (1, 1, 2)
    )
    assert first.samples == again.samples and len(first.samples) == 10
    assert first.samples != other.samples and first.identity != other.identity


def test_a_wording_takes_columns_and_reads_nothing_in_them_again(tmp_path: Path) -> None:
    records = [{"q": "{secret}", "secret": "no", "a": "1"}]
    questions = suite(tmp_path, records, prompt="Ask {q} now", reference="= {a}")
    assert questions.samples[0].turns == ("Ask {secret} now",)
    assert questions.samples[0].reference == "= 1"


@pytest.mark.parametrize(
    ("records", "options", "said"),
    [
        ([], {}, "has no samples"),
        ([{"question": "hi"}], {}, "neither 'prompt' nor 'turns'"),
        ([{"prompt": " "}], {}, "asks nothing"),
        ([{"prompt": "hi"}], {"prompt": "{other}"}, "no column 'other'"),
        ([{"prompt": "hi", "id": 1}] * 2, {}, "are called 1"),
        ([{"prompt": "hi"}], {"scorer": {"kind": "numbr"}}, "did you mean number"),
        ([{"prompt": "hi"}], {"scorer": None}, "has no scorer"),
        ([{"prompt": "hi"}], {"scorers": {}}, "did you mean scorer"),
        ([{"prompt": "hi"}], {"talk": ["loud"]}, "no scorer of conversations 'loud'"),
        ([{"prompt": "hi"}], {"data": "gone.jsonl"}, "gone.jsonl cannot be read"),
        ([{"prompt": "hi", "choices": ["a"]}], {"kind": "choice"}, "two choices or more"),
        ([{"prompt": "hi", "choices": ["a", "b"]}], {"kind": "choice"}, "none of its choices"),
        ([{"prompt": "hi"}], {"sampling": {"temprature": 1}}, "did you mean temperature"),
    ],
)
def test_a_broken_suite_says_what_is_wrong(
    tmp_path: Path, records: list[Mapping[str, Any]], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        suite(tmp_path, records, **options)


def test_broken_json_names_the_line(tmp_path: Path) -> None:
    suite(tmp_path)
    with (tmp_path / "data.jsonl").open("a") as file:
        file.write("{no\n")
    with pytest.raises(InputError, match=rf"data.jsonl:{COUNT + 1} is no JSON"):
        read_suite(tmp_path / "suite.yaml")


def test_an_unknown_suite_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean reasoning"):
        find_suite("reasonning", SUITES)


# Runs


def test_a_run_keeps_every_answer_with_how_it_was_made(tmp_path: Path) -> None:
    made = run(suite(tmp_path), tmp_path / "run", wrong_below(15))
    assert made.record.status == "complete" and len(made.answers) == 2 * COUNT
    assert sum(made.scores.values()) == COUNT - 15
    answer = made.answers["3", 0]
    assert (answer.asked, answer.said, answer.slices) == (("say 2",), ("-1",), {})
    assert answer.prompt_ids and answer.finish == "stop"
    template = ScriptedEngine().template
    assert made.record.template == str(template.identity)
    assert made.record.made["packages"]["chatkit-lab"]


def test_the_second_turn_sees_the_first(tmp_path: Path) -> None:
    records = [{"turns": ["say 1", "say 2"], "reference": "2"}]
    made = run(suite(tmp_path, records), tmp_path / "run", asking=Asking())
    (answer,) = made.answers.values()
    assert answer.said == ("1", "2") and answer.score == 1.0
    text = ScriptedEngine().template.tokenizer.decode(answer.prompt_ids)
    assert text.index("say 1") < text.index("say 2")


@pytest.mark.lengthy
def test_a_run_goes_on_where_it_was_cut_off_and_asks_nothing_twice(tmp_path: Path) -> None:
    questions = suite(tmp_path)
    whole = run(questions, tmp_path / "run", asking=Asking(streams=1))
    path = tmp_path / "run" / ANSWERS
    kept = path.read_bytes()
    # A crash in the middle of a line.
    path.write_bytes(kept[: len(kept) // 2])
    before = len(read_run(tmp_path / "run").answers)
    asked: list[str] = []

    def noting(question: str) -> str:
        asked.append(question)
        return right(question)

    again = run(questions, tmp_path / "run", noting, asking=Asking(streams=1))
    assert 0 < before < COUNT and len(asked) == COUNT - before
    assert again.scores == whole.scores and again.record.status == "complete"


def test_a_model_that_fails_leaves_a_partial_run(tmp_path: Path) -> None:
    questions = suite(tmp_path)
    made = run(questions, tmp_path / "run", asking=Asking(streams=1), fail_after=0)
    assert made.record.status == "partial" and len(made.failed) == PATIENCE
    assert made.missing == COUNT - PATIENCE and not made.scores
    mended = run(questions, tmp_path / "run", asking=Asking(streams=1))
    assert mended.record.status == "complete" and not mended.failed


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run(suite(tmp_path), tmp_path / "run")
    other = suite(tmp_path, [{"prompt": "say 1", "reference": "1"}])
    with pytest.raises(InputError, match="holds another run: its identity"):
        run(other, tmp_path / "run")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        run(suite(tmp_path), tmp_path / "run")


def test_choices_are_refused_where_nothing_scores_text(tmp_path: Path) -> None:
    records = [{"prompt": "hi", "choices": ["a", "b"], "reference": "a"}]
    questions = suite(tmp_path, records, kind="choice", scorer=None)
    with pytest.raises(Unsupported, match="@transformers"):
        run(questions, tmp_path / "run", asking=Asking())


# Comparisons


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Run, Run]:
    """A model, and one that gets a quarter of the samples wrong."""
    questions = suite(tmp_path, columns={"slices": ["half"]})
    return run(questions, tmp_path / "old"), run(questions, tmp_path / "new", wrong_below(15))


@pytest.mark.lengthy
def test_differences_are_paired_by_sample(runs: tuple[Run, Run]) -> None:
    compared = compare_runs(*runs)
    assert compared.gain.value == pytest.approx(-15 / COUNT)
    assert compared.gain.high < 0 and compared.p_value == pytest.approx(2 / 2**15)
    assert [change.difference for change in compared.worst] == [-1.0] * 15
    assert compared.slices["half: 0"].pairs == COUNT / 2


@pytest.mark.lengthy
def test_a_model_against_itself_differs_by_nothing(runs: tuple[Run, Run]) -> None:
    compared = compare_runs(runs[0], runs[0])
    assert compared.gain[:3] == (0.0, 0.0, 0.0) and compared.p_value == 1.0


@pytest.mark.lengthy
def test_the_noise_floor_counts_what_changes_when_asked_again(tmp_path: Path) -> None:
    seen: set[str] = set()

    def moody(question: str) -> str:
        again = question in seen
        seen.add(question)
        return "-1" if again and int(right(question)) < 6 else right(question)

    floor = noise_floor(run(suite(tmp_path), tmp_path / "run", moody))
    assert floor is not None and floor.changed == pytest.approx(0.1)
    assert noise_floor(run(suite(tmp_path), tmp_path / "once", asking=Asking())) is None


@pytest.mark.lengthy
def test_runs_of_other_questions_or_templates_are_refused(runs: tuple[Run, Run]) -> None:
    old, new = runs
    for name, told in (("identity", "questions"), ("template", "chat templates")):
        other = replace(new, record=replace(new.record, **{name: "ffff"}))
        with pytest.raises(InputError, match=f"different {told} .*ffff"):
            compare_runs(old, other)
    other = replace(new, record=replace(new.record, template="ffff"))
    assert compare_runs(old, other, across_templates=True).gain.pairs == COUNT


# The gate


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("wrong", "policy", "outcome"),
    [
        (0, Policy(), Outcome.PASS),
        (15, Policy(), Outcome.FAIL),
        (3, Policy(slice_margin=None), Outcome.NOT_ENOUGH),
        (0, Policy(gain=0.05), Outcome.FAIL),
        (0, Policy(pairs=COUNT + 1), Outcome.NOT_ENOUGH),
    ],
)
def test_the_gate_passes_fails_or_says_that_it_cannot_tell(
    tmp_path: Path, wrong: int, policy: Policy, outcome: Outcome
) -> None:
    questions = suite(tmp_path)
    old, new = (
        run(questions, tmp_path / "old"),
        run(questions, tmp_path / "new", wrong_below(wrong)),
    )
    verdict = judge_gate(compare_runs(old, new), policy)
    assert verdict.outcome == outcome and verdict.reasons


@pytest.mark.lengthy
def test_a_better_model_passes_where_a_gain_is_asked_for(tmp_path: Path) -> None:
    questions = suite(tmp_path)
    old, new = run(questions, tmp_path / "old", wrong_below(30)), run(questions, tmp_path / "new")
    assert judge_gate(compare_runs(old, new), Policy(gain=0.2)).outcome == Outcome.PASS


@pytest.mark.lengthy
def test_a_gain_must_be_above_what_a_model_differs_from_itself(tmp_path: Path) -> None:
    questions, seen = suite(tmp_path), set[str]()

    def learning(question: str) -> str:
        """Know a half when first asked, and three quarters when asked again."""
        again = question in seen
        seen.add(question)
        return wrong_below(15 if again else 30)(question)

    old, new = run(questions, tmp_path / "old", learning), run(questions, tmp_path / "new")
    gained = compare_runs(old, new)
    assert judge_gate(gained, Policy(gain=0.15)).outcome == Outcome.NOT_ENOUGH
    quiet = replace(gained, floors={"new": noise_floor(new)})
    assert judge_gate(quiet, Policy(gain=0.15)).outcome == Outcome.PASS


def test_a_run_tells_which_weights_it_measured(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gguf").write_bytes(b"one")
    (tmp_path / "b.gguf").write_bytes(b"two")
    first, second = (weights_of(str(tmp_path / name)) for name in ("a.gguf", "b.gguf"))
    assert first and second and first != second
    assert weights_of("scripted:") is None
    with pytest.raises(NotPulled, match="pull it first"):
        weights_of("smollm2-135m")
    run(suite(tmp_path / "s"), tmp_path / "run")
    monkeypatch.setattr("chatkit.evaluation.running.weights_of", lambda model: "others")
    with pytest.raises(InputError, match="its weights is None, and this one's others"):
        run(suite(tmp_path / "s"), tmp_path / "run")


def test_the_gate_wants_whole_runs_and_a_noise_floor(tmp_path: Path) -> None:
    questions = suite(tmp_path)
    old = run(questions, tmp_path / "old", asking=Asking())
    new = run(questions, tmp_path / "new", asking=Asking())
    verdict = judge_gate(compare_runs(old, new), Policy())
    assert verdict.outcome == Outcome.NOT_ENOUGH and "--passes 2" in verdict.reasons[0]
    partial = replace(new, record=replace(new.record, status="partial"))
    verdict = judge_gate(compare_runs(old, partial), Policy(noise_floor=False))
    assert verdict.outcome == Outcome.NOT_ENOUGH and "is partial" in verdict.reasons[0]


@pytest.mark.lengthy
def test_a_slice_that_suffers_fails_a_model_whose_mean_is_well(tmp_path: Path) -> None:
    questions = suite(tmp_path, columns={"slices": ["half"]})

    def even_only(question: str) -> str:
        number = int(right(question))
        return "-1" if number % 2 == 0 and number < 24 else str(number)

    old, new = run(questions, tmp_path / "old"), run(questions, tmp_path / "new", even_only)
    verdict = judge_gate(compare_runs(old, new), Policy(margin=0.4))
    assert verdict.outcome == Outcome.FAIL and "half: 0" in verdict.reasons[0]


# The report


@pytest.mark.lengthy
def test_the_report_has_the_verdict_first_and_what_was_said_as_text(tmp_path: Path) -> None:
    questions = suite(tmp_path)

    def hostile(question: str) -> str:
        return "<script>alert(1)</script>" if right(question) == "7" else right(question)

    old, new = run(questions, tmp_path / "old"), run(questions, tmp_path / "new", hostile)
    compared = compare_runs(old, new)
    report = report_of([old, new], comparison=compared, verdict=judge_gate(compared, Policy()))
    write_html(report, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert html.index("<h1>Not enough evidence.") < html.index("<table>")
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html
    assert "http://" not in html and "https://" not in html
    assert markdown(report).startswith("# Not enough evidence.")


def test_a_report_of_one_run_tells_its_score(tmp_path: Path) -> None:
    made = run(suite(tmp_path), tmp_path / "run", wrong_below(30))
    assert report_of([made]).headline.startswith("scripted:run scores 50.0%")
