"""What `python -m eval speed` measures, on an engine whose speed is known."""

import asyncio

import pytest

from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.errors import InputError
from chatkit.evaluation.speed import Speed, measure_speed

SLOW = Script(answer=lambda asked: "x" * 40, reading_seconds=0.02, token_seconds=0.005, slots=2)


def measured(streams: list[int]) -> list[Speed]:
    engine = ScriptedEngine(SLOW)
    return asyncio.run(measure_speed("slow", engine, streams, tokens=20, rounds=2))


@pytest.mark.lengthy
def test_waits_and_tokens_are_those_of_the_engine() -> None:
    (alone,) = measured([1])
    assert (alone.model, alone.streams, alone.answers) == ("slow", 1, 2)
    # The engine waits so long at least; a busy machine makes it longer.
    assert alone.first_token_seconds >= 0.02 and alone.between_tokens_seconds >= 0.004
    assert 0 < alone.tokens_per_second <= 20 / (0.02 + 20 * 0.005)


@pytest.mark.lengthy
def test_more_than_the_slots_wait_for_their_turn() -> None:
    two, six = measured([2, 6])
    assert six.answers == 12
    assert six.first_token_seconds > two.first_token_seconds


def test_a_million_tokens_cost_by_the_hour() -> None:
    fast = Speed("m", 1, 1, 0.1, 0.01, 1_000.0, 0, None)
    assert fast.cost(3.6) == pytest.approx(1.0)


@pytest.mark.parametrize("streams", [[], [0], [-1, 2]])
def test_streams_that_are_none_are_refused(streams: list[int]) -> None:
    with pytest.raises(InputError):
        measured(streams)
