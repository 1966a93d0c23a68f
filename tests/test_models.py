"""Models of a process: loaded once, shared, within a budget."""

import asyncio
import time

import pytest

from chatkit import models as models_module
from chatkit.engine import Engine
from chatkit.engines.opening import LoadOptions
from chatkit.engines.scripted import ScriptedEngine
from chatkit.errors import EngineError, InputError, NotEnoughMemory, UnknownModel
from chatkit.models import Models

pytestmark = pytest.mark.anyio


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Open scripted engines of ten bytes each, and note which."""
    names: list[str] = []

    def open_one(name: str, options: LoadOptions) -> Engine:
        names.append(name)
        time.sleep(0.05)
        if name == "scripted:broken":
            raise EngineError("It broke.")
        return ScriptedEngine(name=name)

    monkeypatch.setattr(models_module, "open_engine", open_one)
    monkeypatch.setattr(models_module, "memory_needed", lambda name, options: 10)
    return names


async def use(models: Models, name: str) -> Engine:
    async with models.use(name) as engine:
        return engine


async def test_a_model_is_loaded_once_and_shared(opened: list[str]) -> None:
    models = Models(budget=100)
    engines = await asyncio.gather(*(use(models, "scripted:a") for _ in range(5)))
    assert len(set(map(id, engines))) == 1
    assert opened == ["scripted:a"]


async def test_other_options_are_another_load(opened: list[str]) -> None:
    models = Models(budget=100)
    first = await use(models, "scripted:a")
    async with models.use("scripted:a", LoadOptions(context=512)) as second:
        assert second is not first


async def test_the_least_recently_used_leaves_first(opened: list[str]) -> None:
    models = Models(budget=20)
    first = await use(models, "scripted:a")
    await use(models, "scripted:b")
    await use(models, "scripted:a")
    await use(models, "scripted:c")
    assert models.names == ("scripted:a", "scripted:c")
    await first.health()


async def test_what_leaves_is_closed(opened: list[str]) -> None:
    models = Models(budget=10)
    first = await use(models, "scripted:a")
    await use(models, "scripted:b")
    with pytest.raises(EngineError, match="closed"):
        await first.health()


async def test_a_model_in_use_stays(opened: list[str]) -> None:
    models = Models(budget=10)
    async with models.use("scripted:a") as engine:
        with pytest.raises(NotEnoughMemory, match="--force"):
            await use(models, "scripted:b")
        await engine.health()


async def test_a_pinned_model_stays(opened: list[str]) -> None:
    models = Models(budget=10)
    await use(models, "scripted:a")
    models.pin("scripted:a")
    with pytest.raises(NotEnoughMemory):
        await use(models, "scripted:b")


async def test_only_a_loaded_model_can_be_pinned(opened: list[str]) -> None:
    with pytest.raises(InputError, match="not loaded"):
        Models(budget=10).pin("scripted:a")


async def test_force_loads_over_the_budget(opened: list[str]) -> None:
    models = Models(budget=5)
    async with models.use("scripted:a", LoadOptions(force=True)) as engine:
        await engine.health()


async def test_idle_models_can_be_sent_away(opened: list[str]) -> None:
    models = Models(budget=100)
    await use(models, "scripted:a")
    await use(models, "scripted:b")
    models.pin("scripted:b")
    await models.unload_idle(seconds=0)
    assert models.names == ("scripted:b",)


async def test_a_failed_load_is_told_to_all_who_wait_and_tried_again(opened: list[str]) -> None:
    models = Models(budget=100)
    waiting = [use(models, "scripted:broken") for _ in range(2)]
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(failure, EngineError) for failure in failures)
    with pytest.raises(EngineError):
        await use(models, "scripted:broken")
    assert len(opened) == 2


async def test_a_caller_that_gives_up_does_not_spoil_the_load(opened: list[str]) -> None:
    models = Models(budget=100)
    impatient = asyncio.create_task(use(models, "scripted:a"))
    await asyncio.sleep(0.01)
    patient = asyncio.create_task(use(models, "scripted:a"))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).name == "scripted:a"
    assert opened == ["scripted:a"]


async def test_closing_lets_every_model_go(opened: list[str]) -> None:
    models = Models(budget=100)
    engine = await use(models, "scripted:a")
    models.pin("scripted:a")
    await models.close()
    assert models.names == ()
    with pytest.raises(EngineError):
        await engine.health()


async def test_an_unknown_model_is_not_loaded() -> None:
    with pytest.raises(UnknownModel, match="smollm2-135m"):
        await use(Models(budget=100), "smolm2-135m")
