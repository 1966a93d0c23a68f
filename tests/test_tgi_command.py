"""`python -m serve tgi-command`: limits that fit the card, and options that TGI has."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_containers import LAUNCHER

from chatkit.catalogue import find
from chatkit.errors import InputError, NotEnoughMemory, Unsupported
from chatkit.hardware import GIB, named_hardware
from serve.tgi_plan import BYTES_PER_WEIGHT, TgiPlan, docker_command, plan_tgi

ROOT = Path(__file__).parent.parent


def plan(model: str, hardware: str, **options: Any) -> TgiPlan:
    return plan_tgi(find(model), named_hardware(hardware), **options)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "serve", "tgi-command", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def flags(words: list[str]) -> dict[str, str]:
    image = next(place for place, word in enumerate(words) if word.startswith("ghcr.io/"))
    return dict(zip(words[image + 1 :: 2], words[image + 2 :: 2], strict=True))


@pytest.mark.parametrize(
    ("model", "hardware", "options"),
    [
        ("mistral-7b-instruct", "24GB", {}),
        ("llama-3.1-8b-instruct", "24GB", {"quantize": "eetq"}),
        ("llama-3.3-70b-instruct", "2x80GB", {}),
        ("llama-2-7b-chat", "16GB", {"quantize": "bitsandbytes-nf4"}),
        ("smollm2-1.7b", "8GB", {"adapters": ("pirate=/data/pirate", "org/name")}),
    ],
)
def test_weights_and_cache_fit_the_cards(
    model: str, hardware: str, options: dict[str, Any]
) -> None:
    entry, made = find(model), plan(model, hardware, **options)
    shape = entry.architecture
    cache = made.max_batch_total_tokens * 4 * shape.layers * shape.kv_heads * shape.head_size
    weights = entry.parameters * BYTES_PER_WEIGHT[made.quantize]
    memory = sum(device.memory for device in named_hardware(hardware).devices)
    assert 0.75 * memory < weights + cache < memory - made.shards * GIB
    assert 0 < made.max_input_tokens < made.max_total_tokens <= entry.context
    assert made.max_total_tokens <= made.max_batch_total_tokens
    assert made.max_input_tokens <= made.max_batch_prefill_tokens <= made.max_batch_total_tokens


def test_every_option_is_one_of_tgis() -> None:
    made = plan("llama-2-7b-chat", "2x24GB", quantize="eetq", adapters=("a/b",))
    given = flags(docker_command(made, 8080, "weights"))
    assert {flag.removeprefix("--") for flag in given} <= set(LAUNCHER)
    assert {name.lower().replace("_", "-") for name in made.environment} <= set(LAUNCHER)
    assert given["--num-shard"] == "2" and given["--quantize"] == "eetq"
    assert given["--lora-adapters"] == "a/b" and given["--usage-stats"] == "off"


@pytest.mark.lengthy
def test_a_gated_model_gets_the_token_by_its_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    said = run("--model", "llama-3.1-8b-instruct", "--gpu", "24GB")
    words = shlex.split(said.stdout)
    assert words[words.index("--env") + 1] == "HF_TOKEN"
    assert "hf_secret" not in said.stdout and "is gated" in said.stderr
    assert "HF_TOKEN" not in run("--model", "mistral-7b-instruct", "--gpu", "24GB").stdout


def test_the_command_is_for_this_machine_alone() -> None:
    words = docker_command(plan("mistral-7b-instruct", "24GB"), 9000, "weights")
    assert words[words.index("--publish") + 1] == "127.0.0.1:9000:80"


@pytest.mark.lengthy
def test_the_lines_for_compose_are_the_same_plan() -> None:
    said = run("--model", "mistral-7b-instruct", "--gpu", "24GB", "--format", "env").stdout
    lines = dict(line.split("=", 1) for line in said.splitlines())
    made = plan("mistral-7b-instruct", "24GB")
    assert lines == {f"TGI_{name}": value for name, value in made.environment.items()}
    compose = (ROOT / "serve" / "compose.yaml").read_text()
    assert all(f"${{{name}" in compose for name in lines if name != "TGI_USAGE_STATS")


@pytest.mark.parametrize(
    ("model", "hardware", "options", "error", "sentence"),
    [
        ("llama-3.3-70b-instruct", "24GB", {}, NotEnoughMemory, "use 8 cards of 24 GB"),
        ("llama-3.1-8b-instruct", "16GB", {}, NotEnoughMemory, "--quantize eetq or 2 cards"),
        ("mistral-7b-instruct", "24GB", {"quantize": "q4"}, InputError, "bitsandbytes-nf4"),
        ("mistral-7b-instruct", "24GB", {"shards": 2}, InputError, "1 to 1"),
        ("mistral-7b-instruct", "3x24GB", {}, InputError, "32 heads"),
        ("smollm2-135m", "24GB", {}, Unsupported, "python -m serve engine"),
    ],
)
def test_what_cannot_be_is_one_sentence_with_a_way_out(
    model: str, hardware: str, options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        plan(model, hardware, **options)


@pytest.mark.lengthy
def test_without_a_card_it_asks_for_one() -> None:
    said = run("--model", "mistral-7b-instruct")
    assert said.returncode == 2 and "--gpu 24GB" in said.stderr
