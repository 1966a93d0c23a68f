"""What cannot be stored, and names of no possible shape: a clear error, and nothing is changed."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scripted_service import SCRIPTED, USER, opened
from stores import CALLS, OF_NODES, all_rows, answer_to

from chatkit.answering.options import AnswerOptions
from chatkit.chat import ChatService
from chatkit.errors import ChatkitError, InputError, NotFound
from chatkit.messages import assistant
from chatkit.store.records import ConversationSettings, Feedback

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

STRANGE = (
    "",
    " ",
    "../../etc/passwd",
    "%2e%2e%2f",
    "' OR 1=1 --",
    "'); DROP TABLE nodes; --",
    "x" * 10_000,
    "🦆" * 40,
    "a\x00b",
    "\ud800",
    "tmp\ud800",
    "tmp\x00",
    "\n",
    "NULL",
    "00" * 16,
)
NO_TEXT = ("a\x00b", "\ud800", "half \udfff")
Write = Callable[[ChatService, str, str, str], Awaitable[Any]]
# Every way for a text to come in.
WRITES: dict[str, Write] = {
    "a title": lambda it, chat, node, text: it.rename(USER, chat, text),
    "a first title": lambda it, chat, node, text: it.begin(USER, title=text),
    "a system prompt": lambda it, chat, node, text: it.configure(
        USER, chat, ConversationSettings(text)
    ),
    "a first system prompt": lambda it, chat, node, text: it.begin(
        USER, ConversationSettings(text)
    ),
    "a question": lambda it, chat, node, text: it.send(USER, chat, text, SCRIPTED),
    "an edited answer": lambda it, chat, node, text: it.edit(USER, chat, node, text, SCRIPTED),
    "a comment": lambda it, chat, node, text: it.feedback(
        USER, chat, node, Feedback("up", (), text)
    ),
    "a tag": lambda it, chat, node, text: it.feedback(USER, chat, node, Feedback("up", (text,))),
    "a client's name": lambda it, chat, node, text: it.send(
        USER, chat, "x", SCRIPTED, client_id=text
    ),
    "a model": lambda it, chat, node, text: it.send(USER, chat, "x", AnswerOptions(text)),
    "a user": lambda it, chat, node, text: it.begin(text),
}


async def prepared(service: ChatService) -> tuple[str, str]:
    """Make a conversation, and give its name and an answer's."""
    conversation = await service.begin(USER, title="tides")
    return conversation, await answer_to(service, conversation, "hi")


@pytest.mark.lengthy
async def test_a_name_of_no_possible_shape_is_a_conversation_that_does_not_exist(
    database: str,
) -> None:
    async with opened() as service:
        _, answer = await prepared(service)
        before = await all_rows(service.store)
        for id in STRANGE:
            for name, call in CALLS.items():
                with pytest.raises(NotFound) as refused:
                    await call(service, USER, id, answer)
                assert str(refused.value).startswith("There is no conversation "), name
                assert len(str(refused.value)) < 200, name
        assert await all_rows(service.store) == before


@pytest.mark.lengthy
async def test_a_name_of_no_possible_shape_is_a_message_that_does_not_exist(database: str) -> None:
    async with opened() as service:
        conversation, _ = await prepared(service)
        before = await all_rows(service.store)
        for id in STRANGE:
            for name in sorted(OF_NODES):
                with pytest.raises(NotFound) as refused:
                    await CALLS[name](service, USER, conversation, id)
                assert str(refused.value).startswith("There is no message "), name
                assert len(str(refused.value)) < 200, name
            with suppress(NotFound):
                assert await service.ledger(USER, conversation, id) is None
            with pytest.raises(NotFound):
                await service.send(USER, conversation, "x", SCRIPTED, parent=id)
            if id:
                with pytest.raises(NotFound):
                    await service.page(USER, conversation, head=id)
        assert await all_rows(service.store) == before


@pytest.mark.lengthy
async def test_text_that_no_store_holds_is_refused_or_cleaned(database: str) -> None:
    async with opened() as service:
        conversation, answer = await prepared(service)
        for what, write in WRITES.items():
            before, cleaned = await all_rows(service.store), 0
            for text in NO_TEXT:
                try:
                    await write(service, conversation, answer, text)
                except InputError as error:
                    assert len(str(error)) < 300, what
                    assert cleaned or await all_rows(service.store) == before, what
                else:
                    # A title is on one line, whatever comes.
                    assert "title" in what and "\x00" in text, what
                    cleaned += 1


async def test_text_over_the_limit_is_refused(database: str) -> None:
    async with opened() as service:
        conversation, answer = await prepared(service)
        before = await all_rows(service.store)
        for what in ("a system prompt", "a question", "an edited answer", "a comment"):
            with pytest.raises(InputError, match=r"200,001 characters and may have 200,000"):
                await WRITES[what](service, conversation, answer, "x" * 200_001)
            assert await all_rows(service.store) == before, what


async def test_names_of_a_wrong_length_are_refused(database: str) -> None:
    async with opened() as service:
        conversation, answer = await prepared(service)
        before = await all_rows(service.store)
        for what in ("a client's name", "a user"):
            for name in ("", "x" * 65):
                with pytest.raises(InputError, match="use 1 to 64"):
                    await WRITES[what](service, conversation, answer, name)
        assert await all_rows(service.store) == before


@pytest.mark.lengthy
@hypothesis_settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=st.sampled_from(sorted(CALLS)), id=st.text(max_size=70), node=st.text(max_size=70))
@example(name="send", id="tmp", node="")
async def test_no_name_is_an_error_of_the_database(
    database: str, name: str, id: str, node: str
) -> None:
    async with opened() as service:
        conversation = await service.begin(USER)
        for place in ((id, node), (conversation, node)):
            try:
                await CALLS[name](service, USER, *place)
            except ChatkitError:
                continue
        await service.delete_user(USER)


@pytest.mark.lengthy
@hypothesis_settings(
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=200))
@example(text="🦆 \u202e\ufeff\u0001\x7f <|im_end|> {{ x }} \\u0000")
async def test_every_text_comes_back_as_it_was_written(database: str, text: str) -> None:
    async with opened() as service:
        conversation = await service.begin(USER, ConversationSettings(text.replace("\x00", "")))
        try:
            turn = await service.send(USER, conversation, text, SCRIPTED)
        except InputError:
            assert "\x00" in text or not text.strip()
        else:
            async for _ in service.subscribe(USER, conversation, turn.answer):
                pass
            await service.feedback(USER, conversation, turn.answer, Feedback("up", (), text))
            question, answer = (await service.page(USER, conversation)).messages
            assert question.node.message.content == text
            assert answer.node.message.content == f"You said: {text}"
            assert answer.feedback.comment == text
        await service.delete(USER, conversation)


@pytest.mark.parametrize("encryption", ["on", "off"])
async def test_an_import_of_strange_facts_is_stored_as_far_as_it_goes(
    database: str, monkeypatch: pytest.MonkeyPatch, encryption: str
) -> None:
    monkeypatch.setenv("CHATKIT_ENCRYPTION", encryption)
    async with opened() as service:
        conversation, _ = await prepared(service)
        (portable,) = await service.export(USER, [conversation])
        strange = {
            "status": "queued",
            "model": "m\x00" * 999,
            "finish": "x" * 99,
            "adapter": "\x00",
            "template_identity": "t" * 999,
            "seed": 2**80,
            "prompt_tokens": -1,
            "error": ["k" * 999, "\x00"],
            "sampling": {"stop": ["\x00"]},
        }
        node = replace(portable.nodes[-1], message=assistant("a\x00 needle"), facts=strange)
        changed = replace(portable, nodes=(*portable.nodes[:-1], node))
        (copy,) = await service.import_conversations(USER, [changed])
        found = (await service.page(USER, copy)).messages[-1].node
        assert found.message.content == "a\x00 needle" and found.facts is not None
        assert found.facts.status == "interrupted" and found.facts.finish == "x" * 8
        assert [hit.node for hit in await service.search(USER, "needle")] == [found.id]
