"""The face for notebooks and terminals: `chatkit.load("smollm2-135m").chat()`."""

import json
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Literal

from chatkit.background import iterate, wait_for
from chatkit.conversation import Conversation, Node
from chatkit.display import Display, best_display
from chatkit.engine import Delta, observed
from chatkit.engines.opening import LoadOptions
from chatkit.engines.weights import Quantize
from chatkit.errors import InputError
from chatkit.messages import Message, assistant, check_text, user
from chatkit.messages import system as system_message
from chatkit.models import Models, shared_models
from chatkit.prompt import build_prompt
from chatkit.reply import Reply
from chatkit.sampling import Sampling
from chatkit.telemetry import request


def load(
    name: str,
    *,
    quantize: Quantize | None = None,
    context: int | None = None,
    force: bool = False,
) -> "Model":
    """Load a model, or find it loaded already.

    Args:
        name: see `chatkit.naming`, for example `smollm2-135m` or `smollm2-135m@transformers`.
        quantize: `int8` or `int4` weights in the transformers engine.
        context: the window in tokens of the embedded engine.
        force: load even when the estimate says that it does not fit.

    Raises:
        UnknownModel: nothing has this name; the nearest names are given.
        NotPulled: its files are not on this machine.
        NotEnoughMemory: it does not fit.
        ModelFileError: its files are corrupt.
    """
    model = Model(name, LoadOptions(quantize, context, force), shared_models())
    model.count_tokens("")
    return model


class Model:
    """A loaded model.

    Args:
        name: its name.
        options: how it is loaded.
        models: where it is loaded; when it had to leave there, using it loads it again.
    """

    def __init__(self, name: str, options: LoadOptions, models: Models) -> None:
        self.name = name
        self._options = options
        self._models = models

    def __repr__(self) -> str:
        return f"<Model {self.name}>"

    def chat(self, *, system: str | None = None, sampling: Sampling | None = None) -> "Chat":
        """Begin a conversation.

        Args:
            system: the system prompt; None leaves it to the template.
            sampling: how answers are drawn; None leaves it to the model.
        """
        return Chat(self, system=system, sampling=sampling)

    def count_tokens(self, text: str) -> int:
        """Count the tokens of plain text."""
        return wait_for(self._count(text))

    def count_prompt(self, messages: tuple[Message, ...]) -> int:
        """Count the tokens of a conversation as the model would be given it."""
        return wait_for(self._count_prompt(messages))

    async def stream(
        self, messages: tuple[Message, ...], sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        """Answer a conversation piece by piece.

        Raises: as `Engine.stream`.
        """
        with request():
            async with self._models.use(self.name, self._options) as engine:
                prompt = build_prompt(engine.template, messages)
                async with aclosing(observed(engine, prompt, sampling)) as deltas:
                    async for delta in deltas:
                        yield delta

    async def _count(self, text: str) -> int:
        async with self._models.use(self.name, self._options) as engine:
            return len(engine.template.tokenizer.encode(text))

    async def _count_prompt(self, messages: tuple[Message, ...]) -> int:
        async with self._models.use(self.name, self._options) as engine:
            return len(engine.template.render(messages))


class Chat:
    """A conversation with a model; nothing that was said is lost by asking again or editing.

    Args:
        model: who answers.
        system: the system prompt; None leaves it to the template.
        sampling: how answers are drawn.
        display: shows answers while they come; None chooses for a notebook, a terminal or
            neither.
    """

    def __init__(
        self,
        model: Model,
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
        display: Display | None = None,
    ) -> None:
        self.model = model
        self.system = system
        self.sampling = sampling or Sampling()
        self.conversation = Conversation()
        self.head: str | None = None
        self._asked: Node | None = None
        self.display = display or best_display(sys.stdout)

    @property
    def path(self) -> tuple[Node, ...]:
        """The messages from the first to the current one."""
        return self.conversation.path(self.head)

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the model sees, the system prompt included."""
        said = tuple(node.message for node in self.path)
        return (system_message(self.system), *said) if self.system else said

    @property
    def tokens(self) -> int:
        """How many tokens the conversation takes in the window so far."""
        return self.model.count_prompt(self.messages) if self.messages else 0

    def send(self, text: str, *, sampling: Sampling | None = None) -> Reply:
        """Ask and wait for the answer, which shows itself while it comes.

        Ctrl-C stops the answer; what has come of it stays in the conversation.

        Args:
            text: the question.
            sampling: how this answer is drawn; what is unset follows the chat's own.

        Raises:
            InputError: the text is empty or no valid Unicode.
            PromptTooLong: the conversation fills the window; it is left as it was.
            EngineError: the engine failed.
        """
        return self._answer(self._question(text, self.head), sampling)

    def stream(self, text: str, *, sampling: Sampling | None = None) -> Iterator[Delta]:
        """Ask, and give the answer piece by piece instead of showing it.

        Args and raises: as `send`.
        """
        yield from self._deltas(self._question(text, self.head), sampling)

    def retry(self, *, sampling: Sampling | None = None) -> Reply:
        """Ask the last question again; the new answer stands beside the old one.

        Raises:
            InputError: nothing was asked yet.
        """
        return self._answer(self._last_question(), sampling)

    def edit(self, text: str, *, sampling: Sampling | None = None) -> Reply:
        """Ask something else in place of the last question; the old branch stays.

        Raises:
            InputError: nothing was asked yet, or the text is empty.
        """
        return self._answer(self._question(text, self._last_question().parent), sampling)

    def checkout(self, node: str | None) -> None:
        """Go to any message, to go on from there; None is the very beginning.

        Raises:
            InputError: there is no such message.
        """
        path = self.conversation.path(node)
        questions = [one for one in path if one.message.role == "user"]
        self.head, self._asked = node, questions[-1] if questions else None

    def save(self, path: Path | str) -> None:
        """Write the whole tree to a JSON file, in one step.

        Raises:
            OSError: the file cannot be written; what was there before is untouched.
        """
        value = self.conversation.to_json() | {"head": self.head, "system": self.system}
        target = Path(path)
        draft = target.with_name(f".{target.name}.draft")
        draft.write_text(json.dumps(value, ensure_ascii=False, indent=1), "utf-8")
        draft.replace(target)

    def open(self, path: Path | str) -> None:
        """Take up a conversation that `save` wrote.

        Raises:
            InputError: the file holds no saved conversation.
        """
        try:
            value = json.loads(Path(path).read_text("utf-8"))
        except ValueError:
            raise InputError(f"{path} is no JSON; choose a file that chatkit saved.") from None
        self.conversation = Conversation.from_json(value)
        self.system = value.get("system")
        self.checkout(value.get("head"))

    def _question(self, text: str, parent: str | None) -> Node:
        check_text(text)
        if not text.strip():
            raise InputError("The message is empty; write something to send.")
        return self.conversation.add(user(text), parent)

    def _last_question(self) -> Node:
        if self._asked is None:
            raise InputError("Nothing was asked yet; send a message first.")
        return self._asked

    def _answer(self, question: Node, sampling: Sampling | None) -> Reply:
        last = Delta("")
        finish: Literal["stop", "length", "stopped"] = "stopped"
        self.display.begin()
        try:
            for last in self._deltas(question, sampling):
                self.display.show(last.text)
            finish = last.finish or finish
        except KeyboardInterrupt:
            if self.head == question.parent:
                raise
        finally:
            self.display.end()
        answer = self.path[-1]
        return Reply(answer.message.content, finish, last.usage, answer.id)

    def _deltas(self, question: Node, sampling: Sampling | None) -> Iterator[Delta]:
        """Stream the answer to a question, and keep it however it ends."""
        self._asked = question
        said = tuple(node.message for node in self.conversation.path(question.id))
        messages = (system_message(self.system), *said) if self.system else said
        drawn = (sampling or Sampling()).over(self.sampling)
        text, finished = "", False
        try:
            for delta in iterate(self.model.stream(messages, drawn)):
                text += delta.text
                finished = delta.finish is not None
                yield delta
        finally:
            if text or finished:
                self.head = self.conversation.add(assistant(text), question.id).id
