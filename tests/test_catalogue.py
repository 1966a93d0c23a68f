"""The catalogue: what its rows promise."""

import re
from importlib import resources
from itertools import groupby
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from chatkit.catalogue import (
    Architecture,
    Entry,
    GgufSource,
    HubSource,
    Recommended,
    WheelSource,
    catalogue,
    find,
)
from chatkit.errors import UnknownModel

ENTRIES = list(catalogue().values())
NAMES = [entry.name for entry in ENTRIES]
every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)

# The published totals that were seen, digit for digit, apart from the architecture numbers.
PUBLISHED = {
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm3-3b": 3_075_098_624,
    "codellama-34b-instruct": 33_743_970_304,
    "gemma-3-270m-it": 268_098_176,
    "gemma-3-12b-it": 11_765_788_416,
    "granite-3.3-8b-instruct": 8_170_864_640,
    "llama-3.1-8b-instruct": 8_030_261_248,
    "llama-3.3-70b-instruct": 70_553_706_496,
    "mistral-7b-instruct": 7_248_023_552,
    "mistral-small-24b-instruct": 23_572_403_200,
    "phi-4": 14_659_507_200,
    "phi-4-mini-instruct": 3_836_021_760,
    "qwen2.5-7b-instruct": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
}


def rows() -> list[dict[str, Any]]:
    text = resources.files("chatkit").joinpath("models.yaml").read_text("utf-8")
    loaded: list[dict[str, Any]] = yaml.load(text, Loader=yaml.CSafeLoader)
    return loaded


# What is in it


def test_names_are_unique() -> None:
    assert len({row["name"] for row in rows()}) == len(rows())


def test_the_default_model_comes_first_and_families_stay_together() -> None:
    families = [family for family, _ in groupby(entry.family for entry in ENTRIES)]

    assert NAMES[0] == "smollm2-135m"
    assert len(families) == len(set(families))


@pytest.mark.parametrize(
    "name",
    [
        *("smollm2-135m", "smollm2-135m-q4", "smollm2-135m-hub", "smollm2-360m", "smollm2-1.7b"),
        *("llama-2-7b-chat", "llama-2-13b-chat", "llama-2-70b-chat"),
        *("mistral-7b-instruct", "mistral-nemo-instruct", "mistral-small-24b-instruct"),
        *("codellama-7b-instruct", "codellama-13b-instruct", "codellama-34b-instruct"),
        *("vicuna-7b", "vicuna-13b", "dialogpt-medium"),
        *("llama-3.1-8b-instruct", "llama-3.1-70b-instruct", "llama-3.3-70b-instruct"),
        *("llama-3.2-1b-instruct", "llama-3.2-3b-instruct"),
        *("qwen2.5-0.5b-instruct", "qwen2.5-1.5b-instruct", "qwen2.5-7b-instruct"),
        *("qwen2.5-32b-instruct", "qwen3-0.6b", "qwen3-4b", "qwen3-8b", "qwen3-32b"),
        *("gemma-3-270m-it", "gemma-3-1b-it", "gemma-3-4b-it", "gemma-3-12b-it", "gemma-3-27b-it"),
        *("phi-3.5-mini-instruct", "phi-4", "phi-4-mini-instruct"),
    ],
)
def test_the_models_that_people_ask_for_are_in_it(name: str) -> None:
    assert find(name).name == name


def test_an_unknown_key_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError, match="colour"):
        Entry.model_validate({**rows()[0], "colour": "green"})


def test_an_unknown_key_deep_in_a_row_is_refused_too() -> None:
    row = rows()[0]
    row["architecture"]["layer"] = 30

    with pytest.raises(ValidationError, match=r"architecture\.layer"):
        Entry.model_validate(row)


def test_a_misspelt_name_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownModel, match=r"did you mean .*llama-3\.1-8b-instruct"):
        find("lama-3.1-8b-instrct")


def test_a_name_like_no_other_is_answered_with_where_the_names_are() -> None:
    with pytest.raises(UnknownModel, match="python -m chatkit models"):
        find("zzzzzz")


# Its numbers


@every_entry
def test_the_parameter_count_follows_from_the_architecture(entry: Entry) -> None:
    assert entry.parameters == pytest.approx(recount(entry), rel=1e-3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parameter_count_is_the_published_one(name: str) -> None:
    assert find(name).parameters == PUBLISHED[name]


@every_entry
def test_each_key_head_serves_the_same_number_of_query_heads(entry: Entry) -> None:
    assert entry.architecture.heads % entry.architecture.kv_heads == 0


@every_entry
def test_local_attention_says_how_often_a_layer_sees_everything(entry: Entry) -> None:
    local = entry.architecture.sliding_window is not None

    assert local == (entry.architecture.global_every is not None)


def recount(entry: Entry) -> int:
    """Count the weights anew: embeddings, attention, MLP, norms, biases and positions."""
    a = entry.architecture
    if a.type == "gpt2":
        return _gpt2(a, positions=entry.context)
    width = a.heads + 2 * a.kv_heads
    attention = a.hidden * a.head_size * (width + a.heads)
    biases = a.head_size * width if a.type == "qwen2" else 0
    head_norms = 2 * a.head_size if a.type in ("qwen3", "gemma3_text") else 0
    norms = a.hidden * (4 if a.type == "gemma3_text" else 2)
    layer = attention + biases + 3 * a.hidden * a.intermediate + head_norms + norms
    embeddings = a.vocabulary * a.hidden * (1 if a.tied_embeddings else 2)
    return embeddings + a.layers * layer + a.hidden


def _gpt2(a: Architecture, positions: int) -> int:
    attention = 4 * a.hidden * a.hidden + 4 * a.hidden
    mlp = 2 * a.hidden * a.intermediate + a.intermediate + a.hidden
    norms = 4 * a.hidden
    embeddings = (a.vocabulary + positions) * a.hidden
    return embeddings + a.layers * (attention + mlp + norms) + 2 * a.hidden


# Its sources and licences


@every_entry
def test_each_group_of_facts_has_a_public_page(entry: Entry) -> None:
    always = {"parameters", "architecture", "context", "licence", "sources"}
    assert set(entry.evidence) - {"sampling"} == always
    assert ("sampling" in entry.evidence) == (entry.sampling != Recommended())
    assert all(url.startswith("https://") for url in (*entry.evidence.values(), entry.licence.url))


@every_entry
def test_a_precision_is_the_one_that_its_file_name_says(entry: Entry) -> None:
    for source in entry.sources:
        if not isinstance(source, HubSource):
            assert source.file.lower().endswith(f"{source.precision}.gguf")


@every_entry
def test_a_checksum_is_a_sha256(entry: Entry) -> None:
    for source in entry.sources:
        if isinstance(source, GgufSource) and source.sha256 is not None:
            assert re.fullmatch("[0-9a-f]{64}", source.sha256)


@every_entry
def test_a_model_can_be_run(entry: Entry) -> None:
    assert entry.engines
    assert entry.lora_targets
    assert 1 <= len(entry.strengths) <= 4


@pytest.mark.parametrize(
    ("name", "commercial", "gated"),
    [
        ("smollm2-135m", "yes", False),
        ("llama-2-7b-chat", "conditions", True),
        ("llama-3.2-1b-instruct", "conditions", True),
        ("gemma-3-4b-it", "conditions", True),
        ("vicuna-7b", "conditions", False),
        ("qwen2.5-3b-instruct", "no", False),
        ("qwen2.5-72b-instruct", "conditions", False),
        ("qwen2.5-7b-instruct", "yes", False),
    ],
)
def test_licences_say_what_business_may_do(name: str, commercial: str, gated: bool) -> None:
    assert (find(name).licence.commercial, find(name).gated) == (commercial, gated)


def test_a_wheel_runs_on_both_engines_and_llama_cpp_is_the_default() -> None:
    assert isinstance(find("smollm2-135m").sources[0], WheelSource)
    assert find("smollm2-135m").engines == ("llamacpp", "transformers")


def test_a_gguf_runs_on_llama_cpp_and_a_checkpoint_on_transformers() -> None:
    both = find("qwen3-0.6b")
    gguf = tuple(source for source in both.sources if source.kind == "gguf")
    hub = tuple(source for source in both.sources if source.kind == "hub")

    assert both.engines == ("llamacpp", "transformers")
    assert both.model_copy(update={"sources": gguf}).engines == ("llamacpp",)
    assert both.model_copy(update={"sources": hub}).engines == ("transformers",)


def test_the_small_variants_of_the_default_model_share_its_wheel() -> None:
    assert find("smollm2-135m-q4").sources == find("smollm2-135m").sources
    assert find("smollm2-135m-q4").run_precision is None
