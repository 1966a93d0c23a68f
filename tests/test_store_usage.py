"""What answers came to: counted by the store, for admins only."""

import time

import pytest
from scripted_service import SCRIPTED, USER, opened, slow_script

from chatkit.answering.options import AnswerOptions
from chatkit.chat import ChatService
from chatkit.engines.scripted import Script
from chatkit.errors import Forbidden
from chatkit.store.records import Feedback
from chatkit.store.usage import DAY_SECONDS, ModelUsage

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

OTHER = AnswerOptions("scripted:other")


async def answered(service: ChatService, conversation: str, node: str) -> None:
    """Wait until an answer has ended."""
    async for _ in service.subscribe(USER, conversation, node):
        pass


@pytest.mark.lengthy
async def test_answers_are_counted_by_model_with_what_came_of_them(database: str) -> None:
    async with opened() as service:
        talk = await service.begin(USER)
        first = await service.send(USER, talk, "one", SCRIPTED)
        await answered(service, talk, first.answer)
        again = await service.regenerate(USER, talk, first.answer, OTHER)
        await answered(service, talk, again.answer)
        edited = await service.edit(USER, talk, first.question, "two", OTHER)
        await answered(service, talk, edited.answer)
        await service.feedback(USER, talk, again.answer, Feedback("up"))
        await service.feedback(USER, talk, edited.answer, Feedback("down"))
        usage = await service.store.usage.since(time.time() - 60)
        found = {one.model: one for one in usage.models}
        assert usage.people == 1
        assert [one.model for one in usage.models] == ["scripted:other", "scripted:"]
        tokens = [found[name].tokens for name in ("scripted:", "scripted:other")]
        assert found["scripted:"] == ModelUsage(
            "scripted:", 1, tokens[0], 0, 0, 0, regenerated=1, edited=1, up=0, down=0
        )
        assert found["scripted:other"] == ModelUsage(
            "scripted:other", 2, tokens[1], 0, 0, 0, regenerated=0, edited=1, up=1, down=1
        )
        assert all(tokens)
        today = int(time.time() // DAY_SECONDS)
        assert usage.days == {today: {"scripted:": 1, "scripted:other": 2}}
        assert not (await service.store.usage.since(time.time() + 60)).models


async def test_what_failed_is_counted_by_its_kind(database: str) -> None:
    async with opened(Script(fail_after=1)) as service:
        talk = await service.begin(USER)
        sent = await service.send(USER, talk, "a b c", SCRIPTED)
        await answered(service, talk, sent.answer)
        usage = await service.store.usage.since(0)
        (model,) = usage.models
        assert (model.answers, model.failed) == (1, 1)
        (error,) = usage.errors
        assert (error.kind, error.model, error.count) == ("EngineError", "scripted:", 1)


@pytest.mark.lengthy
async def test_a_models_speed_is_that_of_its_newest_answers(database: str) -> None:
    async with opened(slow_script(0.001)) as service:
        assert await service.speed("scripted:") is None
        talk = await service.begin(USER)
        sent = await service.send(USER, talk, "one", SCRIPTED)
        await answered(service, talk, sent.answer)
        speed = await service.speed("scripted:")
        assert speed is not None and speed > 0
        assert await service.speed("scripted:other") is None


@pytest.mark.lengthy
async def test_only_admins_see_usage_and_the_audit_log(database: str) -> None:
    async with opened() as service:
        anna = await service.identity.add("anna", "admin", "correct horse battery")
        bo = await service.identity.add("bo", "user", "staple tomorrow window")
        for user in (bo.id, USER, "visitor:0"):
            with pytest.raises(Forbidden):
                await service.usage(user, 0)
            with pytest.raises(Forbidden):
                await service.audit_log(user, 10)
        assert (await service.usage(anna.id, 0)).people == 0
        assert [entry["number"] for entry in await service.audit_log(anna.id, 10)] == [2, 1]
