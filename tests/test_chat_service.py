"""The chat service: the one path of a message."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from chatkit import models as models_module
from chatkit import telemetry
from chatkit.answering.options import AnswerOptions
from chatkit.chat import ChatService
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.errors import InputError, NotFound
from chatkit.live.event import Event
from chatkit.models import Models
from chatkit.sampling import Sampling
from chatkit.service import open_chat_service
from chatkit.settings import settings
from chatkit.shelf import Page
from chatkit.store.conversations import Cursor
from chatkit.store.records import ConversationSettings, Feedback

pytestmark = pytest.mark.anyio

SCRIPTED = AnswerOptions("scripted:")
EXACT = AnswerOptions("scripted:", Sampling(temperature=0))
Opener = Callable[[Script], Any]


@pytest.fixture(params=["sqlite", pytest.param("postgres and redis", marks=pytest.mark.services)])
def opened(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> Opener:
    """Open the service with a scripted engine; a second time it is another process's."""
    if request.param != "sqlite":
        monkeypatch.setenv("CHATKIT_DATABASE_URL", request.getfixturevalue("postgres_url"))
        monkeypatch.setenv("CHATKIT_REDIS_URL", request.getfixturevalue("redis_url"))

    @asynccontextmanager
    async def open_it(script: Script | None = None) -> AsyncIterator[ChatService]:
        engine = ScriptedEngine(script)
        monkeypatch.setattr(models_module, "open_engine", lambda name, options: engine)
        service = await open_chat_service(settings(), Models(budget=100), titles=False)
        try:
            yield service
        finally:
            await service.close()

    return open_it


async def events(service: ChatService, conversation: str, node: str, after: int = 0) -> list[Event]:
    return [event async for event in service.subscribe("ada", conversation, node, after)]


async def answered(service: ChatService, conversation: str, text: str, **how: Any) -> str:
    turn = await service.send("ada", conversation, text, how.pop("options", SCRIPTED), **how)
    await events(service, conversation, turn.answer)
    return turn.answer


def said(page: Page) -> list[str]:
    return [shown.node.message.content for shown in page.messages]


@pytest.mark.lengthy
async def test_a_question_is_stored_before_its_answer_begins(opened: Opener) -> None:
    async with opened(Script(reading_seconds=0.3)) as service:
        conversation = await service.begin("ada")
        await service.send("ada", conversation, "hello", SCRIPTED)
        assert said(await service.page("ada", conversation)) == ["hello", ""]


@pytest.mark.lengthy
async def test_events_are_numbered_and_tell_of_every_step(opened: Opener) -> None:
    async with opened(Script(token_seconds=0.03)) as service:
        conversation = await service.begin("ada")
        turn = await service.send("ada", conversation, "hi", SCRIPTED)
        heard = await events(service, conversation, turn.answer)
    kinds = [event.kind for event in heard]
    assert kinds[:3] == ["accepted", "queued", "started"] and kinds[-1] == "done"
    assert set(kinds[3:-1]) == {"delta"} and len(kinds) > 6
    assert [event.seq for event in heard] == list(range(1, len(heard) + 1))
    assert "".join(event.text for event in heard) == "You said: hi"


@pytest.mark.lengthy
async def test_a_late_subscriber_gets_exactly_what_it_lacks(opened: Opener) -> None:
    async with opened(Script(token_seconds=0.02)) as service:
        conversation = await service.begin("ada")
        turn = await service.send("ada", conversation, "hi", SCRIPTED)
        heard = await events(service, conversation, turn.answer)
        for after in range(len(heard)):
            late = await events(service, conversation, turn.answer, after)
            assert late[-1].kind == "done" and late[0].seq > after


async def test_the_same_send_again_is_the_same_turn(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        first = await service.send("ada", conversation, "hi", SCRIPTED, client_id="one")
        await events(service, conversation, first.answer)
        again = await service.send("ada", conversation, "hi", SCRIPTED, client_id="one")
        assert again == first
        assert len((await service.page("ada", conversation)).messages) == 2


@pytest.mark.lengthy
async def test_the_same_send_again_is_the_same_turn_in_another_process(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        first = await service.send("ada", conversation, "hi", SCRIPTED, client_id="one")
        await events(service, conversation, first.answer)
    async with opened() as later:
        assert await later.send("ada", conversation, "hi", SCRIPTED, client_id="one") == first


async def test_regenerating_puts_an_answer_beside_the_old_one(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        first = await answered(service, conversation, "hi")
        turn = await service.regenerate("ada", conversation, first, SCRIPTED)
        await events(service, conversation, turn.answer)
        newest = (await service.page("ada", conversation)).messages[-1]
    assert newest.node.id == turn.answer and newest.siblings == (first, turn.answer)


@pytest.mark.lengthy
async def test_an_edited_question_is_asked_and_the_old_one_stays(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        await answered(service, conversation, "hi")
        question = (await service.page("ada", conversation)).messages[0].node.id
        turn = await service.edit("ada", conversation, question, "bye", SCRIPTED)
        await events(service, conversation, turn.answer)
        page = await service.page("ada", conversation)
        assert said(page) == ["bye", "You said: bye"]
        assert page.messages[0].siblings == (question, turn.question)
        await service.select_branch("ada", conversation, question)
        assert said(await service.page("ada", conversation)) == ["hi", "You said: hi"]


async def test_an_edited_answer_keeps_the_original_as_its_sibling(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        first = await answered(service, conversation, "hi")
        turn = await service.edit("ada", conversation, first, "better", SCRIPTED)
        page = await service.page("ada", conversation)
        assert said(page) == ["hi", "better"]
        assert page.messages[-1].siblings == (first, turn.answer)
        assert page.messages[-1].node.facts is None


@pytest.mark.lengthy
async def test_stopping_keeps_what_has_come(opened: Opener) -> None:
    async with opened(Script(answer=lambda _: "word " * 200, token_seconds=0.005)) as service:
        conversation = await service.begin("ada")
        turn = await service.send("ada", conversation, "go", SCRIPTED)
        heard: list[Event] = []
        async for event in service.subscribe("ada", conversation, turn.answer):
            heard.append(event)
            if event.kind == "delta" and event.seq == 6:
                await service.stop("ada", conversation, turn.answer)
        stored = said(await service.page("ada", conversation))[-1]
    assert heard[-1].kind == "stopped"
    assert stored == "".join(event.text for event in heard) and 0 < len(stored) < 1000


@pytest.mark.lengthy
async def test_another_process_follows_and_stops_an_answer(opened: Opener) -> None:
    script = Script(answer=lambda _: "word " * 400, token_seconds=0.005)
    async with opened(script) as writer, opened(script) as other:
        conversation = await writer.begin("ada")
        turn = await writer.send("ada", conversation, "go", SCRIPTED)
        seen = ""
        async for event in other.subscribe("ada", conversation, turn.answer):
            seen = event.text if event.kind == "snapshot" else seen + event.text
            if len(seen) > 20:
                await other.stop("ada", conversation, turn.answer)
        assert event.kind == "stopped"
        stored = said(await other.page("ada", conversation))[-1]
    assert seen == stored and 0 < len(stored) < 2000


@pytest.mark.lengthy
async def test_a_fork_is_a_copy_that_knows_where_it_came_from(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada", ConversationSettings("Be brief."))
        first = await answered(service, conversation, "one")
        await answered(service, conversation, "two")
        fork = await service.fork("ada", conversation, first)
        page = await service.page("ada", fork)
        assert said(page) == ["one", "You said: one"]
        assert page.conversation.forked_from == (conversation, first)
        assert page.conversation.settings.system == "Be brief."
        await service.delete("ada", conversation)
        assert said(await service.page("ada", fork)) == ["one", "You said: one"]


@pytest.mark.lengthy
async def test_the_ledger_says_what_the_model_was_given(opened: Opener) -> None:
    async with opened(Script(context=400)) as service:
        conversation = await service.begin("ada", ConversationSettings("Be brief."))
        for number in range(6):
            last = await answered(service, conversation, f"question {number} {'x' * 30}")
        ledger = await service.ledger("ada", conversation, last)
    assert ledger is not None
    assert [line.fate for line in ledger.lines if line.role == "system"] == ["sent"]
    assert "left out" in {line.fate for line in ledger.lines}


@pytest.mark.lengthy
async def test_a_summary_takes_the_place_of_what_leaves(opened: Opener) -> None:
    script = Script(context=600, answer=lambda text: f"short {text[:10]}")
    async with opened(script) as service:
        conversation = await service.begin("ada", ConversationSettings(policy="summarise"))
        for number in range(8):
            last = await answered(service, conversation, f"question {number} {'x' * 60}")
        ledger = await service.ledger("ada", conversation, last)
        tree = await service.store.nodes.tree("ada", conversation)
    assert ledger is not None and "summarised" in {line.fate for line in ledger.lines}
    assert any(node.kind == "summary" for node in tree)


async def test_a_conversation_that_refuses_to_forget_says_so(opened: Opener) -> None:
    async with opened(Script(context=300)) as service:
        conversation = await service.begin("ada", ConversationSettings(policy="refuse"))
        await answered(service, conversation, "x" * 60)
        turn = await service.send("ada", conversation, "y" * 60, SCRIPTED)
        end = (await events(service, conversation, turn.answer))[-1]
    assert end.kind == "failed" and "tokens" in end.text


@pytest.mark.lengthy
async def test_the_same_exact_prompt_is_answered_from_the_cache(opened: Opener) -> None:
    async with opened() as service:
        for _ in range(2):
            conversation = await service.begin("ada")
            await answered(service, conversation, "hi", options=EXACT)
        assert service.answers.counts == {"miss": 1, "hit": 1}
        assert said(await service.page("ada", conversation)) == ["hi", "You said: hi"]


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "options",
    [SCRIPTED, AnswerOptions("scripted:", Sampling(temperature=0), cached=False)],
    ids=["a random answer", "switched off"],
)
async def test_the_cache_is_not_asked(opened: Opener, options: AnswerOptions) -> None:
    async with opened() as service:
        for _ in range(2):
            conversation = await service.begin("ada")
            await answered(service, conversation, "hi", options=options)
        assert not service.answers.counts


@pytest.mark.lengthy
async def test_the_cache_can_be_switched_off(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_ANSWER_CACHE", "off")
    async with opened() as service:
        for _ in range(2):
            await answered(service, await service.begin("ada"), "hi", options=EXACT)
        assert service.answers.counts["hit"] == 0


async def test_nobody_gets_an_answer_from_another_users_cache(opened: Opener) -> None:
    async with opened() as service:
        for user in ("ada", "bob"):
            conversation = await service.begin(user)
            turn = await service.send(user, conversation, "hi", EXACT)
            async for _ in service.subscribe(user, conversation, turn.answer):
                pass
        assert service.answers.counts == {"miss": 2}


@pytest.mark.lengthy
async def test_a_deleted_conversation_leaves_the_cache_too(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        await answered(service, conversation, "hi", options=EXACT)
        await service.delete("ada", conversation)
        await answered(service, await service.begin("ada"), "hi", options=EXACT)
        assert service.answers.counts == {"miss": 2}


@pytest.mark.lengthy
async def test_a_model_that_is_loaded_again_answers_anew(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        await answered(service, conversation, "hi", options=EXACT)
    async with opened(Script(answer=lambda _: "other")) as service:
        conversation = await service.begin("ada")
        await answered(service, conversation, "hi", options=EXACT)
        assert said(await service.page("ada", conversation))[-1] == "other"


@pytest.mark.lengthy
async def test_a_turn_reads_only_what_is_new(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        for number in range(5):
            await answered(service, conversation, str(number))
        assert service.lasting.paths.counts == {"miss": 1, "hit": 4}


@pytest.mark.lengthy
async def test_a_conversation_is_named_after_its_first_question(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        await answered(service, conversation, "What is\na tide?")
        assert (await service.conversation("ada", conversation)).title == "What is a tide?"


async def test_a_title_that_a_person_gave_stays(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        await service.rename("ada", conversation, " Tides ")
        await answered(service, conversation, "What is a tide?")
        assert (await service.conversation("ada", conversation)).title == "Tides"


@pytest.mark.lengthy
async def test_feedback_is_shown_and_can_be_changed(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        answer = await answered(service, conversation, "hi")
        for opinion in (Feedback("down", ("wrong",), "no"), Feedback("up")):
            await service.feedback("ada", conversation, answer, opinion)
            page = await service.page("ada", conversation)
            assert page.messages[-1].feedback == opinion
        question = page.messages[0].node.id
        with pytest.raises(InputError, match="no answer"):
            await service.feedback("ada", conversation, question, Feedback("up"))


@pytest.mark.lengthy
async def test_older_messages_are_another_page(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        for number in range(4):
            await answered(service, conversation, str(number))
        newest = await service.page("ada", conversation, limit=3)
        assert said(newest) == ["You said: 2", "3", "You said: 3"] and newest.more
        before = newest.messages[0].node.parent
        older = await service.page("ada", conversation, head=before, limit=30)
        assert said(older)[-1] == "2" and not older.more


@pytest.mark.lengthy
async def test_a_temporary_chat_answers_and_is_found_nowhere(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada", temporary=True)
        await answered(service, conversation, "secret")
        assert said(await service.page("ada", conversation)) == ["secret", "You said: secret"]
        assert not await service.conversations("ada")
        assert not await service.search("ada", "secret")
        await service.delete("ada", conversation)
        with pytest.raises(NotFound):
            await service.page("ada", conversation)


@pytest.mark.lengthy
async def test_what_belongs_to_another_does_not_exist(opened: Opener) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        answer = await answered(service, conversation, "hi")
        sentences = set()
        for id in (conversation, "f" * 32):
            for call in (
                service.send("bob", id, "x", SCRIPTED),
                service.regenerate("bob", id, answer, SCRIPTED),
                service.edit("bob", id, answer, "x", SCRIPTED),
                service.stop("bob", id, answer),
                service.page("bob", id),
                service.fork("bob", id, answer),
                service.rename("bob", id, "x"),
                service.delete("bob", id),
                service.feedback("bob", id, answer, Feedback("up")),
                service.ledger("bob", id, answer),
                service.select_branch("bob", id, answer),
                service.pin("bob", id, answer),
                anext(service.subscribe("bob", id, answer)),
            ):
                with pytest.raises(NotFound) as refused:
                    await call
                sentences.add(str(refused.value).replace(id, "ID"))
        assert len(sentences) == 1
        assert said(await service.page("ada", conversation)) == ["hi", "You said: hi"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("  ", "empty"), ("a\x00b", "NUL"), ("\ud800", "Unicode"), ("x" * 200_001, "200,000")],
)
async def test_text_that_cannot_be_stored_is_refused(
    opened: Opener, text: str, reason: str
) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        with pytest.raises(InputError, match=reason):
            await service.send("ada", conversation, text, SCRIPTED)
        assert not (await service.page("ada", conversation)).messages


@pytest.mark.lengthy
async def test_pinned_messages_stay_in_the_window(opened: Opener) -> None:
    async with opened(Script(context=400)) as service:
        conversation = await service.begin("ada")
        await answered(service, conversation, f"keep me {'x' * 30}")
        first = (await service.page("ada", conversation)).messages[0].node.id
        await service.pin("ada", conversation, first)
        for number in range(6):
            last = await answered(service, conversation, f"question {number} {'x' * 30}")
        path = await service.store.nodes.path("ada", conversation, last)
        assert path[0].pinned
        ledger = await service.ledger("ada", conversation, last)
    assert ledger is not None
    lines = {line.id: line.fate for line in ledger.lines}
    assert lines[first] == "sent" and "left out" in lines.values()


@pytest.mark.lengthy
async def test_every_stage_and_action_is_counted(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = CollectorRegistry()
    monkeypatch.setattr(telemetry, "_sinks", [telemetry.MetricsSink(registry)])
    async with opened() as service:
        conversation = await service.begin("ada")
        answer = await answered(service, conversation, "hi")
        turn = await service.regenerate("ada", conversation, answer, SCRIPTED)
        await events(service, conversation, turn.answer)
        await service.feedback("ada", conversation, answer, Feedback("up"))
        facts = (await service.page("ada", conversation)).messages[-1].node.facts

    def count(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    for stage in ("load", "context", "cache", "queue", "first token", "writing", "store"):
        assert count("chatkit_stage_seconds_count", stage=stage) == 2
    for action in ("send", "regenerate", "thumb up"):
        assert count("chatkit_actions_total", model="scripted:", action=action) == 1
    assert facts is not None and set(facts.stage_seconds) >= {"load", "context", "writing"}


@pytest.mark.lengthy
async def test_conversations_are_listed_newest_first_page_by_page(opened: Opener) -> None:
    async with opened() as service:
        ids = [await service.begin("ada", title=str(number)) for number in range(5)]
        await service.begin("bob")
        first = await service.conversations("ada", 3)
        last = first[-1]
        rest = await service.conversations("ada", 3, Cursor(last.updated, last.id))
    assert [record.id for record in (*first, *rest)] == ids[::-1]


@pytest.mark.lengthy
async def test_without_encryption_it_works_the_same(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_ENCRYPTION", "off")
    async with opened() as service:
        conversation = await service.begin("ada")
        await answered(service, conversation, "the tide")
        (hit, *_) = await service.search("ada", "tid")
        assert hit.conversation == conversation and "tide" in hit.snippet


@pytest.mark.model
async def test_the_real_model_answers_and_names_the_conversation(model_home: Path) -> None:
    own = replace(
        settings(),
        data=model_home.parent / "unused",
        database="sqlite://",
        keys="sqlite://",
        master_key="ab" * 32,
    )
    service = await open_chat_service(own, Models())
    conversation = await service.begin("ada", ConversationSettings("Be brief."))
    options = AnswerOptions("smollm2-135m", Sampling(temperature=0, max_tokens=16))
    turn = await service.send("ada", conversation, "What is the capital of France?", options)
    heard = [event async for event in service.subscribe("ada", conversation, turn.answer)]
    await service.close()
    assert "Paris" in "".join(event.text for event in heard)
    assert heard[-1].facts["prompt_tokens"] > 10


@pytest.mark.lengthy
async def test_the_same_question_to_another_adapter_is_another_answer(opened: Opener) -> None:
    script = Script(answer=lambda text: "plain", adapters={"pirate": lambda text: "Arr"})
    async with opened(script) as service:
        said = []
        for adapter in (None, "pirate", None):
            conversation = await service.begin("ada")
            options = replace(EXACT, adapter=adapter)
            turn = await service.send("ada", conversation, "Hello", options)
            await events(service, conversation, turn.answer)
            stored = await service.lasting.store.nodes.find("ada", conversation, turn.answer)
            assert stored.facts is not None and stored.facts.adapter == adapter
            said.append(stored.message.content)
    assert said == ["plain", "Arr", "plain"]


async def test_an_adapter_that_is_not_loaded_fails_the_answer_with_its_name(
    opened: Opener,
) -> None:
    async with opened() as service:
        conversation = await service.begin("ada")
        turn = await service.send("ada", conversation, "Hello", replace(EXACT, adapter="nobody"))
        seen = await events(service, conversation, turn.answer)
    assert seen[-1].kind == "failed" and "nobody" in seen[-1].text
