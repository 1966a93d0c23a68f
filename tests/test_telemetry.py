"""Logs and metrics: silent until set up, and never a word of a message."""

import json

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from chatkit import telemetry
from chatkit.engine import complete, observed
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.errors import EngineError
from chatkit.messages import user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

pytestmark = pytest.mark.anyio
SECRET = "my-secret-question"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_sinks", [])


async def answer(engine: ScriptedEngine) -> str:
    prompt = build_prompt(engine.template, [user(SECRET)])
    with telemetry.request() as id:
        async for _ in observed(engine, prompt, Sampling()):
            pass
    return id


async def test_nothing_is_said_before_it_is_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    await answer(ScriptedEngine())
    assert capsys.readouterr() == ("", "")


async def test_each_line_carries_the_request_and_no_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    telemetry.set_up_logging()
    id = await answer(ScriptedEngine())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["answer asked", "answer finished"]
    assert {line["request"] for line in lines} == {id}
    assert SECRET not in json.dumps(lines)


async def test_a_failure_is_counted_and_logged_by_its_type(
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry = CollectorRegistry()
    telemetry.set_up_metrics(registry)
    telemetry.set_up_logging()
    with pytest.raises(EngineError):
        await answer(ScriptedEngine(Script(fail_after=1)))
    assert 'chatkit_errors_total{kind="EngineError"} 1.0' in generate_latest(registry).decode()
    assert '"error": "EngineError"' in capsys.readouterr().err


async def test_metrics_tell_speed_tokens_and_queue() -> None:
    registry = CollectorRegistry()
    telemetry.set_up_metrics(registry)
    await answer(ScriptedEngine())
    text = generate_latest(registry).decode()
    for wanted in (
        'chatkit_first_token_seconds_count{model="scripted:"} 1.0',
        'chatkit_tokens_per_second_count{model="scripted:"} 1.0',
        'chatkit_tokens_total{kind="completion",model="scripted:"} 28.0',
        'chatkit_answers_total{finish="stop",model="scripted:"} 1.0',
        'chatkit_queue_requests{model="scripted:"} 0.0',
    ):
        assert wanted in text
    assert SECRET not in text


async def test_setting_up_twice_counts_once() -> None:
    registry = CollectorRegistry()
    telemetry.set_up_metrics(registry)
    telemetry.set_up_metrics(registry)
    await answer(ScriptedEngine())
    assert 'finish="stop",model="scripted:"} 1.0' in generate_latest(registry).decode()


async def test_observing_changes_nothing() -> None:
    engine = ScriptedEngine()
    prompt = build_prompt(engine.template, [user("hello")])
    text, _ = await complete(engine, prompt, Sampling())
    seen = [delta.text async for delta in observed(engine, prompt, Sampling())]
    assert "".join(seen) == text
