"""How long OpenMP's threads wait awake, on few cores and on many."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

import chatkit.finetuning.run
from chatkit.finetuning.recipe import Recipe
from chatkit.finetuning.run import Result, Say
from chatkit.loading import waiting_threads
from chatkit.loading.waiting_threads import waiting_threads_sleep
from finetune.__main__ import app

NAME = "GOMP_SPINCOUNT"


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_threads, "core_count", lambda: 2)
    monkeypatch.delenv(NAME, raising=False)


def test_what_is_loaded_within_soon_sleeps_and_what_comes_later_is_as_before() -> None:
    with waiting_threads_sleep():
        assert os.environ[NAME] == "500"
    assert NAME not in os.environ


def test_an_error_within_leaves_nothing_behind() -> None:
    with pytest.raises(ImportError), waiting_threads_sleep():
        raise ImportError
    assert NAME not in os.environ


def test_with_a_core_to_spare_threads_wait_as_they_do_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting_threads, "core_count", lambda: 3)
    with waiting_threads_sleep():
        assert NAME not in os.environ


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "7")
    with waiting_threads_sleep():
        assert os.environ[NAME] == "7"
    assert os.environ[NAME] == "7"


def test_fine_tuning_loads_its_libraries_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str | None] = []

    def run(recipe: Recipe, *, resume: bool, say: Say) -> Result:
        told.append(os.environ.get(NAME))
        return Result(tmp_path, {})

    monkeypatch.setattr(chatkit.finetuning.run, "run", run)
    done = CliRunner().invoke(app, ["sft", "finetune/recipes/smollm2-sft-lora.yaml"])
    assert done.exit_code == 0, done.output
    assert told == ["500"]
