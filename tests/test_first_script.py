"""The bugs of the 200-line script that chatkit began as; none of them may come back."""

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest
from scripted_service import (
    SCRIPTED,
    USER,
    asked,
    long_answer,
    opened,
    rises,
    shown,
    slow_script,
    watched,
)

from chatkit.chat import ChatService
from chatkit.engine import Delta
from chatkit.engines.scripted import CHATML, Script, ScriptedEngine, byte_tokenizer
from chatkit.errors import NotFound
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.store.records import ConversationSettings
from chatkit.template import ChatTemplate

pytestmark = [pytest.mark.anyio, pytest.mark.lengthy]

HOUR_SECONDS = 3_600.0
# A template like no other, to tell whose it was.
OWN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role | upper }} SAYS\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>ASSISTANT SAYS\n{% endif %}"
)


class Listening(ScriptedEngine):
    """Keeps the prompts that it is given, and raises what is put into `errors`.

    Args:
        script: what to do.
        template: the model's own template.
    """

    def __init__(
        self,
        script: Script | None = None,
        template: str = CHATML,
    ) -> None:
        super().__init__(script)
        self.template = ChatTemplate(byte_tokenizer(), template)
        self.prompts: list[Prompt] = []
        self.errors: list[Exception] = []

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Keep the prompt, and answer; see `Engine.stream`."""
        self.prompts.append(prompt)
        if self.errors:
            raise self.errors.pop(0)
        async for delta in super().stream(prompt, sampling, adapter):
            yield delta

    @property
    def contents(self) -> list[str]:
        """The texts of the newest prompt."""
        return [message.content for message in self.prompts[-1].messages]


async def test_a_question_enters_the_prompt_once() -> None:
    engine = Listening()
    async with opened(engine) as service:
        conversation = await service.begin(USER)
        await asked(service, conversation, "first question")
        assert engine.contents == ["first question"]
        await asked(service, conversation, "second question")
        assert engine.contents == ["first question", "You said: first question", "second question"]
        assert engine.prompts[-1].text.count("second question") == 1


async def test_the_template_is_the_models_own() -> None:
    engine = Listening(template=OWN_TEMPLATE)
    async with opened(engine) as service:
        conversation = await service.begin(USER, ConversationSettings("Be brief."))
        await asked(service, conversation, "hi")
        assert engine.prompts[-1].text == (
            "<|im_start|>SYSTEM SAYS\nBe brief.<|im_end|>\n"
            "<|im_start|>USER SAYS\nhi<|im_end|>\n<|im_start|>ASSISTANT SAYS\n"
        )
        node = (await service.page(USER, conversation)).messages[-1].node
        assert node.facts is not None
        assert node.facts.template_identity == str(engine.template.identity)


async def test_the_oldest_text_leaves_and_never_the_newest() -> None:
    engine = Listening(Script(context=600, answer=lambda _: "yes"))
    async with opened(engine) as service:
        conversation = await service.begin(USER, ConversationSettings("Be brief."))
        questions = [f"question {number} {'x' * 60}" for number in range(10)]
        for question in questions:
            await asked(service, conversation, question)
            assert engine.contents[0] == "Be brief." and engine.contents[-1] == question
        sent = [text for text in engine.contents if text.startswith("question")]
        assert 1 < len(sent) < len(questions) and sent == questions[-len(sent) :]


async def test_the_window_is_counted_in_tokens_and_not_in_messages() -> None:
    engine = Listening(Script(context=4096, answer=lambda _: "yes"))
    async with opened(engine) as service:
        conversation = await service.begin(USER)
        for number in range(12):
            await asked(service, conversation, str(number))
        assert len(engine.contents) == 23


async def test_the_history_is_there_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as service:
        conversation = await service.begin(USER)
        await asked(service, conversation, "before")
    later = time.time() + 25 * HOUR_SECONDS
    monkeypatch.setattr(time, "time", lambda: later)
    engine = Listening()
    async with opened(engine) as service:
        await asked(service, conversation, "after")
        assert engine.contents == ["before", "You said: before", "after"]
        assert len((await service.page(USER, conversation)).messages) == 4


async def test_a_second_tab_does_not_steal_the_stream() -> None:
    async with opened(slow_script(0.002)) as service:
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "go", SCRIPTED)
        tabs = [asyncio.create_task(watched(service, conversation, turn.answer))]
        await asyncio.sleep(0.1)
        tabs += [asyncio.create_task(watched(service, conversation, turn.answer)) for _ in "ab"]
        await asyncio.sleep(0.1)
        tabs.pop().cancel()
        for events in await asyncio.gather(*tabs):
            assert rises(events) and events[-1].kind == "done"
            assert shown(events) == long_answer("go")


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), KeyError("a bug"), OSError("a bug"), MemoryError(), AssertionError()],
    ids=lambda error: type(error).__name__,
)
async def test_an_exception_of_the_engine_ends_that_answer_only(error: Exception) -> None:
    engine = Listening(slow_script(0.0005))
    async with opened(engine) as service:
        other = await service.begin(USER)
        running = await service.send(USER, other, "go", SCRIPTED)
        while not engine.prompts:
            await asyncio.sleep(0.01)
        engine.errors.append(error)
        conversation = await service.begin(USER)
        turn = await service.send(USER, conversation, "hi", SCRIPTED)
        end = (await watched(service, conversation, turn.answer))[-1]
        assert end.kind == "failed" and "went wrong on the server" in end.text
        assert "a bug" not in end.text and "report the request" in end.text
        again = await service.regenerate(USER, conversation, turn.answer, SCRIPTED)
        assert shown(await watched(service, conversation, again.answer)) == long_answer("hi")
        assert shown(await watched(service, other, running.answer)) == long_answer("go")


async def test_a_conversation_of_someone_else_is_refused() -> None:
    async with opened() as service:
        conversation = await service.begin(USER)
        await asked(service, conversation, "secret")
        answer = (await service.page(USER, conversation)).messages[-1].node.id
        with pytest.raises(NotFound):
            await service.send("mallory", conversation, "hi", SCRIPTED)
        with pytest.raises(NotFound):
            await service.page("mallory", conversation)
        with pytest.raises(NotFound):
            await _first_event(service, "mallory", conversation, answer)
        assert len((await service.page(USER, conversation)).messages) == 2


async def test_the_name_of_a_conversation_cannot_be_guessed() -> None:
    async with opened() as service:
        names = {await service.begin(USER) for _ in range(20)}
        assert len(names) == 20 and all(len(name) == 32 for name in names)


async def _first_event(service: ChatService, user: str, conversation: str, answer: str) -> None:
    async for _ in service.subscribe(user, conversation, answer):
        return
