"""`python -m chatkit models`: the catalogue as a table and as JSON."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from chatkit.catalogue import Entry, catalogue, find
from chatkit.cli.models import count_text, models, tokens_text

NAMES = list(catalogue())
HEAVY = {"torch", "transformers", "huggingface_hub", "xllamacpp", "numpy", "pandas"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHATKIT_HOME", str(tmp_path))
    return tmp_path


def shown(*arguments: str, **environment: str) -> str:
    app = typer.Typer()
    app.command()(models)
    result = CliRunner().invoke(app, list(arguments), env=environment)
    assert result.exit_code == 0
    return result.stdout


def pull_by_hand(home: Path, name: str) -> None:
    folder = home / "models" / name
    folder.mkdir(parents=True)
    (folder / "pulled.json").write_text("{}")


def test_json_is_every_row_with_engines_and_what_is_pulled(home: Path) -> None:
    pull_by_hand(home, "qwen3-0.6b")

    printed = {row["name"]: row for row in json.loads(shown("--json"))}

    assert list(printed) == NAMES
    assert printed["qwen3-0.6b"]["pulled"] is True
    assert printed["qwen3-8b"]["pulled"] is False
    assert printed["dialogpt-medium"]["engines"] == ["transformers"]
    assert printed["phi-4"]["architecture"]["layers"] == 40


def test_a_row_of_the_json_makes_the_entry_again(home: Path) -> None:
    for row in json.loads(shown("--json")):
        del row["engines"], row["pulled"], row["drift"]
        assert Entry.model_validate(row) == find(row["name"])


def test_in_a_pipe_the_table_has_one_whole_line_per_model(home: Path) -> None:
    pull_by_hand(home, "phi-4")

    lines = shown(COLUMNS="40").splitlines()
    cells = {line.split()[0]: line for line in lines[1:]}

    assert list(cells) == NAMES
    assert re.split(r"\s{2,}", cells["phi-4"].strip()) == (
        ["phi-4", "15B", "16K", "MIT", "yes", "-", "llamacpp, transformers", "pulled", "-"]
    )


def test_a_narrow_terminal_keeps_the_names_whole(home: Path) -> None:
    text = shown(COLUMNS="80", FORCE_COLOR="1", TERM="xterm")

    assert all(name in text for name in NAMES)
    assert "A wider terminal shows licences and engines" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (134_515_008, "135M"),
        (999_885_952, "1.0B"),
        (6_738_415_616, "6.7B"),
        (68_976_648_192, "69B"),
    ],
)
def test_sizes_are_written_as_the_field_writes_them(count: int, text: str) -> None:
    assert count_text(count) == text


@pytest.mark.parametrize(("tokens", "text"), [(8192, "8K"), (131072, "128K"), (1000, "1000")])
def test_windows_are_written_as_the_field_writes_them(tokens: int, text: str) -> None:
    assert tokens_text(tokens) == text


@pytest.mark.lengthy
def test_listing_the_catalogue_loads_no_heavy_library() -> None:
    program = (
        "import sys; from chatkit.cli.models import models; models(json=True); "
        "print(*sys.modules, file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 0
    assert not HEAVY & set(done.stderr.split())
