"""What quantisation changes, on the default model in 16 and in 4 bits."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.engine import Chance
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.scripted import ScriptedEngine
from chatkit.errors import InputError
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
