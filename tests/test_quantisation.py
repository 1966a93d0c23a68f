"""What quantisation changes, on the default model in 16 and in 4 bits."""

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import pytest
from command import ran
from hypothesis import given
from hypothesis import strategies as st

from chatkit.engine import Chance
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.scripted import ScriptedEngine
from chatkit.engines.transformers import TransformersEngine
from chatkit.errors import InputError
from chatkit.evaluation.measured import MeasuredDrift, note_drift, read_drift
from chatkit.evaluation.quantisation import divergence, measure_drift

PROMPTS = ["What is a tide?", "Name three fruits."]

shares = st.lists(st.floats(0.01, 1), min_size=3, max_size=6)


def chances(parts: list[float]) -> list[Chance]:
    whole = sum(parts)
    return [Chance(place, math.log(part / whole)) for place, part in enumerate(parts)]


@given(parts=shares)
def test_a_distribution_is_no_way_from_itself(parts: list[float]) -> None:
    assert divergence(chances(parts), chances(parts)) == pytest.approx(0, abs=1e-6)


@given(wanted=shares, found=shares)
def test_no_divergence_is_below_nothing(wanted: list[float], found: list[float]) -> None:
    size = min(len(wanted), len(found))
    assert divergence(chances(wanted[:size]), chances(found[:size])) >= 0


def test_it_is_kullbacks_and_leiblers() -> None:
    wanted, found = chances([1, 1]), chances([3, 1])
    assert divergence(wanted, found) == pytest.approx(
        0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25), abs=1e-6
    )


@pytest.mark.slow
@pytest.mark.model
def test_four_bits_are_further_away_than_the_model_itself(
    llamacpp: LlamaCppEngine, llamacpp_q4: LlamaCppEngine
) -> None:
    async def measured() -> None:
        same = await measure_drift(llamacpp, llamacpp, PROMPTS, tokens=12)
        four = await measure_drift(llamacpp, llamacpp_q4, PROMPTS, tokens=12)
        assert same.agreement == 1.0 and same.divergence < 1e-3
        assert 0 < four.agreement <= 1.0 and four.divergence > 5 * same.divergence
        assert four.steps == same.steps and four.worst >= four.divergence

    asyncio.run(measured())


@pytest.mark.slow
@pytest.mark.model
def test_where_both_score_text_the_perplexities_stand_beside_it(
    transformers: TransformersEngine, llamacpp: LlamaCppEngine
) -> None:
    async def measured() -> None:
        found = await measure_drift(transformers, transformers, PROMPTS, tokens=6)
        assert found.perplexities is not None
        own, other = found.perplexities
        # Greedy answers are likely in the eyes of who wrote them.
        assert 1 <= own < 5 and own == pytest.approx(other)
        assert (await measure_drift(transformers, llamacpp, PROMPTS, tokens=6)).perplexities is None

    asyncio.run(measured())


FOUND = MeasuredDrift("smollm2-135m-q4", "smollm2-135m", 2, 24, 0.9, 0.02, "2026-01-01")


def test_what_was_measured_stands_in_the_catalogue(own_home: Path) -> None:
    (own_home / "models" / "smollm2-135m-q4").mkdir(parents=True)
    assert note_drift(FOUND) and read_drift("smollm2-135m-q4") == FOUND
    (row,) = [line for line in ran("models").splitlines() if line.startswith("smollm2-135m-q4 ")]
    assert row.split()[-2:] == ["0.020", "nat"]


@pytest.mark.parametrize("model", ["scripted:", "smollm2-135m-q4", "openai:http://host/name"])
def test_what_has_no_folder_here_is_not_kept(own_home: Path, model: str) -> None:
    assert not note_drift(replace(FOUND, model=model))


def test_a_spoiled_measurement_is_none(own_home: Path) -> None:
    folder = own_home / "models" / "smollm2-135m-q4"
    folder.mkdir(parents=True)
    (folder / "drift.json").write_text("{")
    assert read_drift("smollm2-135m-q4") is None


def test_another_template_is_refused() -> None:
    from chatkit.engines.scripted import byte_tokenizer
    from chatkit.template import ChatTemplate

    other = ScriptedEngine()
    other.template = ChatTemplate(byte_tokenizer(), "{{ messages[0].content }}")
    with pytest.raises(InputError, match="different prompts"):
        asyncio.run(measure_drift(ScriptedEngine(), other, PROMPTS))


def test_no_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="no prompts"):
        asyncio.run(measure_drift(ScriptedEngine(), ScriptedEngine(), []))
