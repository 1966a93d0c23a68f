"""Rows from our own store: what people liked, edited and asked for again, with their consent."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from recipes import recipe, write_rows
from scripted_service import ScriptedModels

from chatkit.answering.options import AnswerOptions
from chatkit.chat import ChatService
from chatkit.engine import Engine
from chatkit.engines.scripted import Script, ScriptedEngine, byte_tokenizer
from chatkit.finetuning.gathering import KINDS, Gathering, gather
from chatkit.finetuning.own_rows import own_rows
from chatkit.finetuning.rows import Example, Pair, Row, Thumb
from chatkit.messages import Message
from chatkit.sampling import Sampling
from chatkit.service import open_chat_service
from chatkit.settings import settings
from chatkit.store.records import Feedback, VoteRecord
from chatkit.template import ChatTemplate

pytestmark = [pytest.mark.anyio, pytest.mark.lengthy]
EXACT = AnswerOptions("scripted:", Sampling(temperature=0.5), cached=False)
TEMPLATE = ChatTemplate(byte_tokenizer())


@pytest.fixture
async def service(own_home: Path) -> AsyncIterator[ChatService]:
    answers = iter(f"answer {n}" for n in range(100))
    engine: Engine = ScriptedEngine(Script(answer=lambda question: next(answers)))
    assert isinstance(engine, ScriptedEngine)
    opened = await open_chat_service(settings(), ScriptedModels(engine), titles=False)
    yield opened
    await opened.close()


async def asked(service: ChatService, text: str, user: str = "ada") -> tuple[str, str, str]:
    conversation = await service.begin(user)
    turn = await service.send(user, conversation, text, EXACT)
    await ended(service, conversation, turn.answer, user)
    return conversation, turn.question, turn.answer


async def ended(service: ChatService, conversation: str, node: str, user: str = "ada") -> None:
    async for _ in service.subscribe(user, conversation, node):
        pass


async def rows(service: ChatService, kind: str, *, consent: bool = True) -> list[Row]:
    found = own_rows(service.store, kind, consent=consent)  # type: ignore[arg-type]
    return [row async for row in found]


async def test_a_liked_answer_is_an_example_and_any_thumb_a_thumb(service: ChatService) -> None:
    conversation, _, answer = await asked(service, "hi")
    await service.feedback("ada", conversation, answer, Feedback("up"))
    other, _, bad = await asked(service, "ho")
    await service.feedback("ada", other, bad, Feedback("down"))
    (example,) = await rows(service, "example")
    assert isinstance(example, Example) and example.messages[-1].content == "answer 0"
    assert example.origin.user == "ada" and example.origin.conversation == conversation
    assert "scripted:" in example.origin.made_by[0] and "0.5" in example.origin.made_by[0]
    thumbs = [row for row in await rows(service, "thumb") if isinstance(row, Thumb)]
    assert sorted((thumb.answer.content, thumb.liked) for thumb in thumbs) == [
        ("answer 0", True),
        ("answer 1", False),
    ]


async def test_siblings_with_different_thumbs_are_a_pair(service: ChatService) -> None:
    conversation, question, first = await asked(service, "hi")
    turn = await service.regenerate("ada", conversation, question, EXACT)
    await ended(service, conversation, turn.answer)
    await service.feedback("ada", conversation, first, Feedback("up"))
    await service.feedback("ada", conversation, turn.answer, Feedback("down"))
    (pair,) = await rows(service, "pair")
    assert isinstance(pair, Pair)
    assert (pair.chosen.content, pair.rejected.content) == ("answer 0", "answer 1")


async def test_the_answer_that_was_kept_is_better_than_the_one_asked_for_again(
    service: ChatService,
) -> None:
    conversation, question, _ = await asked(service, "hi")
    turn = await service.regenerate("ada", conversation, question, EXACT)
    await ended(service, conversation, turn.answer)
    (pair,) = await rows(service, "pair")
    assert isinstance(pair, Pair)
    assert (pair.chosen.content, pair.rejected.content) == ("answer 1", "answer 0")


async def test_a_persons_edit_is_better_than_what_it_replaced(service: ChatService) -> None:
    conversation, _, answer = await asked(service, "hi")
    await service.edit("ada", conversation, answer, "my own words", EXACT)
    (pair,) = await rows(service, "pair")
    assert isinstance(pair, Pair)
    assert (pair.chosen.content, pair.rejected.content) == ("my own words", "answer 0")
    assert pair.origin.made_by[0] == "a person"


async def test_nobody_is_read_without_consent(service: ChatService) -> None:
    for user in ("ada", "bob"):
        conversation, _, answer = await asked(service, "hi", user)
        await service.feedback(user, conversation, answer, Feedback("up"))
    await service.store.opinions.prefer("bob", {"training": True})
    assert {row.origin.user for row in await rows(service, "example", consent=False)} == {"bob"}
    assert {row.origin.user for row in await rows(service, "example")} == {"ada", "bob"}


async def test_a_deleted_user_never_enters_not_even_from_a_file(
    service: ChatService, tmp_path: Path
) -> None:
    conversation, _, answer = await asked(service, "hi")
    await service.feedback("ada", conversation, answer, Feedback("up"))
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}]
    kept = [
        {"messages": [{"role": "user", "content": f"q{n}"}, said[1]], "conversation": f"c{n}"}
        for n in range(3)
    ]
    path = write_rows(
        tmp_path / "rows.jsonl", [{"messages": said, "conversation": conversation}, *kept]
    )
    data = recipe(path, tmp_path / "out", data__held_out=0.01)

    def count() -> tuple[int, int]:
        gathering = Gathering(data.data, KINDS["sft"], TEMPLATE)
        return len(list(gathering.rows())), gathering.report.erased

    assert count() == (4, 0)
    await service.delete_user("ada")
    assert count() == (3, 1)
    assert await rows(service, "example") == []


async def test_a_recipe_reads_the_store_by_name(service: ChatService, tmp_path: Path) -> None:
    for n in range(4):
        conversation, _, answer = await asked(service, f"question {n}", f"user{n}")
        await service.feedback(f"user{n}", conversation, answer, Feedback("up"))
    made = recipe(Path("conversations:"), tmp_path / "out", data__held_out=0.01, data__consent=True)
    _, report = gather(made, TEMPLATE, tmp_path / "data")
    assert report.train == 4 and report.formats == {"conversations:": "our own store, examples"}
    assert {user for user, _ in report.people} == {"user0", "user1", "user2", "user3"}


async def test_a_vote_is_a_pair_and_a_tie_is_none(service: ChatService) -> None:
    asked = (Message("user", "hi"),)
    await service.vote("ada", VoteRecord(asked, "a", "b", "one", "two", 0.0, True))
    await service.vote("ada", VoteRecord(asked, "a", "b", "one", "two", 0.5, True))
    await service.vote("ada", VoteRecord(asked, "a", "b", "same", "same", 1.0, True))
    (pair,) = await rows(service, "pair")
    assert isinstance(pair, Pair) and pair.origin.made_by == ("b", "a")
    assert (pair.chosen.content, pair.rejected.content) == ("two", "one")
