"""`python -m eval`, as a person types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lengthy


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    records = [{"prompt": f"I like {n} trees", "reference": f"{n} trees"} for n in range(100, 160)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    path = tmp_path / "echo.yaml"
    path.write_text("name: echo\ndata: data.jsonl\nscorer: {kind: contains}\n")
    return path


def evaluate(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "eval", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "120"},
    )


@pytest.mark.slow
def test_it_runs_compares_gates_and_reports(suite: Path, tmp_path: Path) -> None:
    for name in ("scripted:", "scripted:other"):
        done = evaluate("run", suite, "--model", name, "--passes", "2", "--out", tmp_path / "runs")
        assert done.returncode == 0, done.stderr
        assert "scores 100.0%" in done.stdout
    runs = sorted((tmp_path / "runs").iterdir())
    assert [folder.name for folder in runs] == ["echo--scripted", "echo--scripted-other"]
    compared = evaluate("compare", *runs)
    assert "No difference between scripted:other and scripted: is shown" in compared.stdout
    gated = evaluate("gate", runs[1], "--against", runs[0], "--html", tmp_path / "gate.html")
    assert (gated.returncode, gated.stdout.split(".")[0]) == (0, "Pass"), gated.stderr
    assert "Pass." in (tmp_path / "gate.html").read_text()
    reported = evaluate("report", *runs, "--html", tmp_path / "report.html")
    assert reported.returncode == 0 and (tmp_path / "report.html").exists()


def test_too_few_samples_are_not_enough_evidence(suite: Path, tmp_path: Path) -> None:
    arguments = ("run", suite, "--limit", "5", "--passes", "2", "--out", tmp_path / "runs")
    assert evaluate(*arguments, "--model", "scripted:").returncode == 0
    folder = tmp_path / "runs" / "echo--scripted"
    gated = evaluate("gate", folder, "--against", folder)
    assert gated.returncode == 3 and "5 pairs and the policy wants 30" in gated.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "instrctions", "--model", "scripted:"), "did you mean instructions?"),
        (("run", "format", "--model", "smollm-135m"), "smollm2-135m"),
        (("compare", "nowhere", "nothing"), "holds no run"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = evaluate(*arguments)
    assert done.returncode in (1, 2)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and said in last
    assert "Traceback" not in done.stderr


def test_it_lists_the_suites_that_come_along() -> None:
    assert "instructions" in evaluate("list").stdout


def test_a_judge_of_the_same_answers_finds_a_tie(suite: Path, tmp_path: Path) -> None:
    for name in ("scripted:", "scripted:other"):
        evaluate("run", suite, "--model", name, "--limit", "3", "--out", tmp_path / "runs")
    runs = sorted((tmp_path / "runs").iterdir())
    # The answers are the same, so nobody need be asked.
    done = evaluate("judge", *runs, "--judge", "scripted:", "--out", tmp_path / "verdicts.jsonl")
    assert done.returncode == 0, done.stderr
    assert "wins 50.0%" in done.stdout and "0 of 3 samples have none" in done.stdout
    assert len((tmp_path / "verdicts.jsonl").read_text().splitlines()) == 3


def test_a_model_that_goes_on_otherwise_is_too_far(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("one\n\ntwo\n")
    arguments = ("drift", "--model", "scripted:", "--against", "scripted:")
    done = evaluate(*arguments, "--prompts", tmp_path / "mine.txt", "--tokens", "4")
    # A script says the same from the beginning, wherever it is to go on.
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("Too far: 25.0% of 8 tokens agree")
    missing = evaluate(*arguments, "--prompts", tmp_path / "none.txt")
    assert missing.returncode == 2 and "cannot be read" in missing.stderr


def test_a_judge_that_was_stopped_goes_on_where_it_was(suite: Path, tmp_path: Path) -> None:
    for name in ("scripted:", "scripted:other"):
        assert evaluate("run", suite, "--model", name, "--out", tmp_path).returncode == 0
    runs = (tmp_path / "echo--scripted", tmp_path / "echo--scripted-other")
    verdicts = tmp_path / "verdicts.jsonl"
    first = {"judge": "scripted:", "sample": "1", "won": 1.0, "swayed": False, "longer": 3}
    verdicts.write_text(json.dumps(first) + '\n{"judge": "scr')
    judged = evaluate("judge", *runs, "--judge", "scripted:", "--out", verdicts)
    assert judged.returncode == 0, judged.stderr
    lines = [json.loads(line) for line in verdicts.read_text().splitlines()]
    assert len(lines) == 60 and lines[0] == first
    (tmp_path / "other.jsonl").write_text("no verdicts\n")
    refused = evaluate("judge", *runs, "--judge", "scripted:", "--out", tmp_path / "other.jsonl")
    assert refused.returncode == 2 and "holds no verdicts" in refused.stderr
