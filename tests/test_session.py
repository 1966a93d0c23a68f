"""Chats in notebooks and terminals."""

import json
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chatkit
from chatkit import models as models_module
from chatkit.background import wait_for
from chatkit.conversation import Conversation
from chatkit.engines.opening import LoadOptions
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.errors import (
    EngineError,
    ImportRefused,
    InputError,
    NotFound,
    NotPulled,
    PromptTooLong,
    UnknownModel,
)
from chatkit.messages import Message, assistant, user
from chatkit.models import Models
from chatkit.sampling import Sampling
from chatkit.service import close_shared_services
from chatkit.session import Chat, Model
from chatkit.shelf import LOCAL_USER


class Recorder:
    """A display that remembers what it showed."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.ended = 0

    def begin(self) -> None:
        self.shown.clear()

    def show(self, piece: str) -> None:
        self.shown.append(piece)

    def end(self) -> None:
        self.ended += 1


def chat_with(monkeypatch: pytest.MonkeyPatch, script: Script) -> Chat:
    engine = ScriptedEngine(script)
    monkeypatch.setattr(models_module, "open_engine", lambda name, options: engine)
    model = Model("scripted:", LoadOptions(), Models(budget=100))
    return Chat(model, display=Recorder())


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Chat:
    return chat_with(monkeypatch, Script())


def texts(chat: Chat) -> list[str]:
    return [message.content for message in chat.messages]


def test_a_reply_has_the_answer_and_what_it_took(chat: Chat) -> None:
    reply = chat.send("hello")
    assert reply.text == str(reply) == "You said: hello"
    assert reply.finish == "stop" and reply.usage is not None
    assert repr(reply).startswith("<Reply stop, 15 tokens")


@pytest.mark.lengthy
def test_the_answer_shows_itself_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = chat_with(monkeypatch, Script(token_seconds=0.03))
    chat.send("hello")
    assert isinstance(chat.display, Recorder)
    assert len(chat.display.shown) > 5 and "".join(chat.display.shown) == "You said: hello"
    assert chat.display.ended == 1


@pytest.mark.lengthy
def test_the_conversation_goes_on(chat: Chat) -> None:
    chat.send("one")
    chat.send("two")
    assert texts(chat) == ["one", "You said: one", "two", "You said: two"]


def test_retry_puts_another_answer_beside_the_first(chat: Chat) -> None:
    first = chat.send("hello")
    second = chat.retry()
    assert [node.id for node in chat.conversation.siblings(first.node)] == [first.node, second.node]
    assert texts(chat) == ["hello", "You said: hello"]


@pytest.mark.lengthy
def test_edit_asks_something_else_and_keeps_the_old_branch(chat: Chat) -> None:
    old = chat.send("hello")
    chat.edit("goodbye")
    assert texts(chat) == ["goodbye", "You said: goodbye"]
    chat.checkout(old.node)
    assert texts(chat) == ["hello", "You said: hello"]


def test_checkout_of_an_unknown_message_changes_nothing(chat: Chat) -> None:
    chat.send("hello")
    head = chat.head
    with pytest.raises(InputError, match="no message"):
        chat.checkout("nowhere")
    assert chat.head == head


def test_nothing_to_retry_or_edit_is_an_error(chat: Chat) -> None:
    for again in (chat.retry, lambda: chat.edit("x")):
        with pytest.raises(InputError, match="send a message first"):
            again()


def test_the_system_prompt_goes_first(chat: Chat) -> None:
    chat.system = "Be brief."
    chat.send("hello")
    assert chat.messages[0] == Message("system", "Be brief.")


@pytest.mark.lengthy
def test_tokens_count_what_the_model_is_given(chat: Chat) -> None:
    assert chat.tokens == 0
    chat.send("hello")
    before = chat.tokens
    chat.send("again")
    assert chat.tokens > before > len("hello")
    assert chat.model.count_tokens("hello") == 5


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_message_changes_nothing(chat: Chat, text: str) -> None:
    with pytest.raises(InputError, match="empty"):
        chat.send(text)
    assert chat.head is None and not chat.conversation.nodes


def test_text_that_no_store_can_hold_is_refused(chat: Chat) -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        chat.send("\ud800")
    assert not chat.conversation.nodes


@pytest.mark.lengthy
def test_a_full_window_leaves_the_conversation_as_it_was(chat: Chat) -> None:
    chat.send("hello")
    with pytest.raises(PromptTooLong):
        chat.send("x" * 5000)
    assert texts(chat) == ["hello", "You said: hello"]
    chat.send("short")
    assert texts(chat)[-1] == "You said: short"


@pytest.mark.lengthy
def test_retry_asks_a_question_again_that_failed(chat: Chat) -> None:
    chat.send("hello")
    with pytest.raises(PromptTooLong):
        chat.send("x" * 5000)
    chat.edit("short")
    assert texts(chat)[-2:] == ["short", "You said: short"]
    assert len(texts(chat)) == 4


@pytest.mark.lengthy
def test_what_came_before_a_failure_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = chat_with(monkeypatch, Script(fail_after=3))
    with pytest.raises(EngineError):
        chat.send("hello")
    assert texts(chat) == ["hello", "You"]


@pytest.mark.lengthy
def test_ctrl_c_stops_the_answer_and_keeps_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = chat_with(monkeypatch, Script(answer=lambda _: "word " * 500, token_seconds=0.005))
    display = chat.display
    assert isinstance(display, Recorder)

    def interrupt() -> None:
        while len(display.shown) < 5:
            time.sleep(0.005)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    reply = chat.send("tell me")
    assert reply.finish == "stopped" and reply.usage is None
    assert reply.text == "".join(display.shown) == texts(chat)[-1]
    assert 5 <= len(reply.text) < 2500


@pytest.mark.lengthy
def test_leaving_a_stream_early_keeps_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = chat_with(monkeypatch, Script(answer=lambda _: "word " * 500, token_seconds=0.001))
    for number, _ in enumerate(stream := chat.stream("tell me")):
        if number == 3:
            stream.close()
            break
    question, answer = texts(chat)
    assert question == "tell me" and answer.startswith("word") and len(answer) < 2500


@pytest.mark.lengthy
def test_sampling_of_one_message_goes_over_the_chats_own(chat: Chat) -> None:
    chat.sampling = Sampling(max_tokens=3)
    assert chat.send("hello").text == "You"
    assert chat.send("hello", sampling=Sampling(max_tokens=8)).text == "You said"


@pytest.mark.lengthy
def test_a_chat_may_choose_an_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chat_with(
        monkeypatch, Script(answer=lambda text: "plain", adapters={"pirate": lambda text: "Arr"})
    ).model
    chats = [Chat(model, display=Recorder(), adapter=name) for name in (None, "pirate")]
    assert [chat.send("Hello").text for chat in chats] == ["plain", "Arr"]
    assert [chat.path[-1].facts.adapter for chat in chats if chat.path[-1].facts] == [
        None,
        "pirate",
    ]


@pytest.mark.lengthy
def test_a_saved_chat_is_taken_up_whole(chat: Chat, tmp_path: Path) -> None:
    chat.system = "Be brief."
    chat.send("héllo 👍")
    chat.retry()
    chat.save(tmp_path / "chat.json")
    other = Chat(chat.model, display=Recorder())
    other.open(tmp_path / "chat.json")
    assert other.messages == chat.messages
    answers = other.conversation.siblings(other.path[-1].id)
    assert [node.message.content for node in answers] == ["You said: héllo 👍"] * 2


@pytest.mark.lengthy
def test_a_chat_that_cannot_be_saved_says_where(chat: Chat, tmp_path: Path) -> None:
    chat.send("hello")
    with pytest.raises(InputError, match=r"nowhere/chat\.json cannot be written"):
        chat.save(tmp_path / "nowhere" / "chat.json")


def test_a_file_that_is_no_chat_is_refused(chat: Chat, tmp_path: Path) -> None:
    for content in ("nonsense", json.dumps({"nodes": [{"id": 1}]})):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(ImportRefused, match=r"x\.json"):
            chat.open(tmp_path / "x.json")


def test_loading_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UnknownModel, match="smollm2-135m"):
        chatkit.load("smollm2-135")


def test_loading_what_is_not_pulled_says_what_to_type() -> None:
    with pytest.raises(NotPulled, match="python -m chatkit pull smollm2-135m"):
        chatkit.load("smollm2-135m")


def test_the_scripted_model_needs_nothing() -> None:
    chat = chatkit.load("scripted:").chat(system="Be brief.")
    assert chat.send("hello").text == "You said: hello"


@pytest.mark.model
def test_the_real_model_answers(model_home: Path) -> None:
    chat = chatkit.load("smollm2-135m").chat(sampling=Sampling(temperature=0, max_tokens=16))
    assert "Paris" in chat.send("What is the capital of France?").text


@pytest.mark.lengthy
@given(st.lists(st.tuples(st.booleans(), st.text(max_size=5)), max_size=20), st.randoms())
def test_a_path_is_what_was_said_on_the_way(
    said: list[tuple[bool, str]], random: "st.random.Random"
) -> None:
    conversation, paths = Conversation(), {None: []}
    for is_user, text in said:
        parent = random.choice(list(paths))
        message = user(text) if is_user else assistant(text)
        node = conversation.add(message, parent)
        paths[node.id] = [*paths[parent], message]
    for head, expected in paths.items():
        assert [node.message for node in conversation.path(head)] == expected
    assert Conversation.of(conversation.nodes.values()) == conversation


@pytest.mark.lengthy
def test_a_conversation_is_there_in_another_process(chat: Chat) -> None:
    chat.system = "Be brief."
    chat.send("hello")
    wait_for(close_shared_services())
    later = chat.model.chat(conversation=chat.id)
    assert texts(later) == ["Be brief.", "hello", "You said: hello"]
    assert later.retry().text == "You said: hello"


@pytest.mark.lengthy
def test_a_temporary_chat_is_in_no_list(chat: Chat) -> None:
    temporary = chat.model.chat(temporary=True)
    temporary.send("secret")
    chat.send("hello")
    listed = wait_for(chat.model.service().conversations(LOCAL_USER))
    assert [record.id for record in listed] == [chat.id]


def test_a_conversation_that_does_not_exist_is_not_resumed(chat: Chat) -> None:
    with pytest.raises(NotFound, match="no conversation"):
        chat.model.chat(conversation="nowhere")
