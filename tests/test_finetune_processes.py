"""Runs in processes of their own: two that share a step, and one whose memory is measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from recipes import lessons, recipe, write_rows
from tiny_model import make_tiny

from chatkit.finetuning.planning import plan
from chatkit.finetuning.recipe import Recipe, write_recipe

pytestmark = [pytest.mark.model, pytest.mark.slow]
ROOT = Path(__file__).parent.parent
SECONDS = 300


def launched(made: Recipe, folder: Path, *launcher: str) -> dict[int, float]:
    """Train in processes of their own, and give the losses."""
    path = folder / "recipe.yaml"
    path.write_text(write_recipe(made))
    command = [sys.executable, *launcher, "-m", "finetune", made.method, str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = map(json.loads, (made.folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_two_processes_over_gloo_make_the_same_steps_as_one(
    default_model_home: Path, model_home: Path, tmp_path: Path
) -> None:
    base = make_tiny(default_model_home, tmp_path / "tiny")
    rows = write_rows(tmp_path / "rows.jsonl", lessons(20))
    changes = {"base": str(base), "train__steps": 3, "train__batch": 4, "train__packing": False}
    losses = []
    config = str(ROOT / "finetune" / "accelerate" / "two_processes_cpu.yaml")
    for name, launcher in {
        "one": (),
        "two": ("-m", "accelerate.commands.launch", "--config_file", config),
    }.items():
        (tmp_path / name).mkdir()
        made = recipe(rows, tmp_path / name / "out", **changes)
        losses.append(launched(made, tmp_path / name, *launcher))
    assert losses[0].keys() == losses[1].keys() == {1, 2, 3}
    for step, loss in losses[0].items():
        assert losses[1][step] == pytest.approx(loss, rel=0.05)


# Not getrusage: that begins with what the parent held when it forked.
PEAK = """
import re, sys
from pathlib import Path
from chatkit.finetuning.recipe import read_recipe
from chatkit.finetuning.run import run
run(read_recipe(Path(sys.argv[1])), say=lambda line: None)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""


def test_the_planned_memory_is_within_20_percent(model_home: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", lessons(200))
    made = recipe(
        rows,
        tmp_path / "out",
        data__longest=512,
        adapter__rank=16,
        train__steps=2,
        train__batch=1,
        measure__questions=0,
        measure__rows=2,
    )
    planned = plan(made).choices[0].needed.total
    path = tmp_path / "recipe.yaml"
    path.write_text(write_recipe(made))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peak = int(done.stdout.splitlines()[-1])
    print(f"planned {planned >> 20} MiB, measured {peak >> 20} MiB")
    assert planned == pytest.approx(peak, rel=0.2)
