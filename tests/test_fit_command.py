"""`python -m chatkit fit`: what a person reads, and what a program reads."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from chatkit.cli.fit import fit
from chatkit.errors import InputError, UnknownModel
from chatkit.hardware import GIB

app = typer.Typer()
app.command()(fit)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def last_line(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()[-1]


def as_json(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_the_default_model_on_this_machine() -> None:
    assert last_line("smollm2-135m").startswith("smollm2-135m (f16, llamacpp) fits: it needs about")


def test_the_hardware_is_said_first() -> None:
    lines = run("llama-2-7b-chat", "--hardware", "2x80GB").stdout.splitlines()
    assert lines[:2] == [
        "Llama 2 7B Chat: 6.7B weights",
        "Hardware: 2 x 80 GB card (80.0 GiB, 80.0 GiB free)",
    ]


def test_a_row_for_each_quantisation_and_each_way_of_fine_tuning() -> None:
    lines = run("llama-2-7b-chat", "--hardware", "24GB").stdout.splitlines()
    labels = [line.split()[0] for line in lines if line.rstrip().endswith("fits")]
    assert labels == ["none", "int8", "int4", "q4", "lora", "qlora"]


def test_a_row_shows_the_parts() -> None:
    output = run("llama-2-7b-chat", "--hardware", "24GB", "--context", "4096").stdout
    row = next(line for line in output.splitlines() if line.startswith("none"))
    assert "bf16, transformers  12.6 GiB   2.0 GiB" in row


def test_a_70b_model_over_two_cards() -> None:
    answer = last_line("llama-2-70b-chat", "--hardware", "2x80GB", "--quantize", "none")
    assert "fits with its layers over 2 cards" in answer


def test_a_model_that_needs_a_quantisation_names_it_and_exits_with_0() -> None:
    answer = last_line("llama-2-70b-chat", "--hardware", "80GB", "--quantize", "none")
    assert answer == (
        "llama-2-70b-chat (bf16, transformers) does not fit: it needs about 130.7 GiB and 72.0 GiB "
        "can be used; it fits with --quantize int8."
    )


def test_a_model_that_cannot_fit_says_so_and_exits_with_0() -> None:
    answer = last_line("llama-2-70b-chat", "--hardware", "24GB")
    assert answer.endswith("can be used; nothing that is offered makes it fit.")


def test_more_context_and_conversations_need_more() -> None:
    small = as_json("llama-2-7b-chat", "--hardware", "24GB", "--context", "1024")
    large = as_json("llama-2-7b-chat", "--hardware", "24GB", "--context", "2048", "--batch", "4")
    assert large["estimate"]["kv_cache"] == 8 * small["estimate"]["kv_cache"]


def test_json_has_everything_in_bytes() -> None:
    answer = as_json("llama-2-7b-chat", "--hardware", "24GB", "--quantize", "none")
    assert answer["model"] == "llama-2-7b-chat"
    assert answer["fits"] is True
    assert answer["hardware"]["usable"] == int(24 * GIB * 0.9)
    assert answer["hardware"]["devices"][0]["kind"] == "cuda"
    assert answer["estimate"]["weights"] == 6_738_415_616 * 2
    assert [row["quantize"] for row in answer["inference"]] == ["none", "int8", "int4", "q4"]
    assert [row["method"] for row in answer["training"]] == ["lora", "qlora"]
    for row in (answer, *answer["inference"], *answer["training"]):
        parts = dict(row["estimate"])
        assert parts.pop("total") == sum(parts.values())


def test_json_says_when_it_does_not_fit_as_asked() -> None:
    answer = as_json("llama-2-70b-chat", "--hardware", "80GB", "--quantize", "none")
    assert (answer["fits"], answer["outcome"], answer["advice"]) == (
        False,
        "fits with",
        "--quantize int8",
    )


def test_an_engine_in_the_name_is_estimated() -> None:
    answer = as_json("smollm2-135m@transformers", "--hardware", "24GB")
    assert (answer["engine"], answer["storage"]) == ("transformers", "bf16")
    assert {row["engine"] for row in answer["inference"]} == {"transformers"}


def test_a_model_without_a_checkpoint_has_no_fine_tuning() -> None:
    answer = as_json("vicuna-13b", "--hardware", "24GB")
    assert [row["quantize"] for row in answer["inference"]] == ["q4"]
    assert answer["training"] == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["smollm2-135m", "--context", "9000"], "takes 1 to 8192"),
        (["smollm2-135m", "--batch", "0"], "at least one conversation"),
        (["smollm2-135m", "--quantize", "int3"], "use none, int8, int4, q4"),
        (["smollm2-135m", "--hardware", "A100"], "write it as 24GB, 80GB or 2x80GB"),
        (["someone/model"], "not in the catalogue"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(arguments: list[str], sentence: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, InputError)
    assert sentence in str(result.exception)


def test_an_unknown_model_names_the_nearest() -> None:
    result = run("smollm2-135")
    assert isinstance(result.exception, UnknownModel)
    assert "smollm2-135m" in str(result.exception)


def test_what_could_not_be_found_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\nexit 9\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Note: nvidia-smi failed" in run("smollm2-135m").stdout


def test_a_narrow_terminal_gets_fewer_columns_and_whole_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    output = run("llama-2-70b-chat", "--hardware", "80GB").stdout
    assert "other" in output and "activations" not in output
    assert "130.7 GiB" in output


def test_help_and_import_load_no_heavy_library() -> None:
    program = (
        "import sys, chatkit.cli.fit; "
        "heavy = {'torch', 'transformers', 'numpy', 'pandas', 'rich.table'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
