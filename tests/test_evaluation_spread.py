"""One run by several processes: as `accelerate launch` starts them, and on a Ray cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatkit.evaluation.launched import take_one_device
from chatkit.evaluation.record import ANSWERS, Run, read_run

pytestmark = pytest.mark.lengthy

COUNT = 24


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    records = [{"prompt": f"I like {n} trees", "reference": f"{n} trees"} for n in range(COUNT)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    path = tmp_path / "echo.yaml"
    path.write_text("name: echo\ndata: data.jsonl\nscorer: {kind: contains}\n")
    return path


def run(suite: Path, out: Path, *arguments: str, launcher: tuple[str, ...] = ()) -> Run:
    command = [sys.executable, "-m", *launcher, "eval", "run", str(suite), "--model", "scripted:"]
    done = subprocess.run(
        [*command, "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("scores 100.0%") == 1
    return read_run(out / "echo--scripted")


# As `accelerate launch` starts processes on several devices.
LAUNCHER = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def test_two_processes_share_a_run_and_tell_it_once(suite: Path, tmp_path: Path) -> None:
    alone, shared = run(suite, tmp_path / "alone"), run(suite, tmp_path / "two", launcher=LAUNCHER)
    assert shared.record.status == "complete" and shared.scores == alone.scores
    assert sorted(path.name for path in shared.folder.iterdir()) == ["answers.jsonl", "run.json"]


@pytest.mark.slow
def test_parts_that_a_crash_left_are_not_asked_again(suite: Path, tmp_path: Path) -> None:
    folder = run(suite, tmp_path, launcher=LAUNCHER).folder
    lines = (folder / ANSWERS).read_text().splitlines(keepends=True)
    marked = [line.replace('"finish": "stop"', '"finish": "before"') for line in lines[5:12]]
    (folder / ANSWERS).write_text("".join(lines[:5]))
    (folder / "part-1.jsonl").write_text("".join(marked))
    again = run(suite, tmp_path, launcher=LAUNCHER)
    assert len(again.answers) == COUNT
    assert sum(one.finish == "before" for one in again.answers.values()) == 7


def test_each_process_sees_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for shown, place, mine in (("4,6", 1, "6"), (None, 2, "2")):
        monkeypatch.setenv("LOCAL_RANK", str(place))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if shown:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        take_one_device()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == mine


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_gives_the_same_numbers(suite: Path, tmp_path: Path) -> None:
    alone = run(suite, tmp_path / "alone")
    spread = run(suite, tmp_path / "ray", "--ray", "local", "--workers", "2")
    assert spread.record.status == "complete" and spread.scores == alone.scores
    assert spread.record.template == alone.record.template


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(suite: Path, tmp_path: Path) -> None:
    arguments = ("run", str(suite), "--model", "scripted:", "--ray", "127.0.0.1:1")
    done = subprocess.run(
        [sys.executable, "-m", "eval", *arguments, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2 and "127.0.0.1:1 does not answer" in done.stderr
