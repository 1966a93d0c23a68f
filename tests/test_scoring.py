"""Many continuations at once are as likely as each by itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_model import make_tiny

from chatkit.engines.scoring import Continuation, score_continuations
from chatkit.engines.weights import load_weights

pytestmark = [pytest.mark.model]

ids = st.lists(st.integers(0, 40_000), min_size=1, max_size=12).map(tuple)


@pytest.fixture(scope="module")
def model(default_model_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    return load_weights(make_tiny(default_model_home, tmp_path_factory.mktemp("scoring") / "tiny"))


def alone(model: Any, one: Continuation) -> tuple[float, bool]:
    """Score one continuation as plainly as it can be done."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*one.prompt, *one.added]])).logits[0]
    chances = logits[len(one.prompt) - 1 : -1].log_softmax(-1)
    said = torch.tensor(one.added)
    return float(chances.gather(1, said[:, None]).sum()), bool((chances.argmax(-1) == said).all())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.lists(st.integers(0, 40_000), max_size=30).map(tuple), data=st.data())
def test_each_is_as_likely_as_by_itself(model: Any, head: tuple[int, ...], data: Any) -> None:
    prompts = data.draw(st.lists(ids, min_size=1, max_size=4))
    wanted = [
        Continuation(head + prompt, added)
        for prompt in prompts
        for added in data.draw(st.lists(ids, min_size=1, max_size=4))
    ]
    found = score_continuations(model, wanted)
    for one, likelihood in zip(wanted, found, strict=True):
        logprob, greedy = alone(model, one)
        assert likelihood.logprob == pytest.approx(logprob, abs=1e-3)
        assert likelihood.greedy == greedy


def test_a_row_that_is_full_goes_on_in_the_next(model: Any) -> None:
    wanted = [Continuation((7,) * 20 + (n,) * 90, (n, n + 1)) for n in range(12)]
    found = score_continuations(model, wanted)
    assert [one.logprob for one in found] == pytest.approx(
        [alone(model, one)[0] for one in wanted], abs=1e-3
    )


def test_what_is_likeliest_is_greedy(model: Any) -> None:
    prompt = (5, 6, 7)
    with torch.inference_mode():
        best = int(model(torch.tensor([prompt])).logits[0, -1].argmax())
    right, wrong = score_continuations(
        model, [Continuation(prompt, (best,)), Continuation(prompt, (best - 1,))]
    )
    assert right.greedy and not wrong.greedy and right.logprob > wrong.logprob


def test_nothing_is_asked_for_nothing(model: Any) -> None:
    assert score_continuations(model, []) == []
