"""One visitor's conversation: asks, streams, stops, and keeps what was said."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from chatkit import telemetry
from chatkit.conversation import Conversation, Node
from chatkit.engine import observed
from chatkit.errors import ChatkitError, InputError
from chatkit.messages import Message, assistant, system, user
from chatkit.models import shared_models
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling
from chatkit.ui.bubble import Bubble, small_print
from chatkit.ui.markdown import GrowingMarkdown

SECONDS_BETWEEN_UPDATES = 0.05


@dataclass(frozen=True, slots=True)
class Wish:
    """How the visitor wants to be answered.

    Args:
        model: the name of the model.
        system: the system prompt, empty without one.
        sampling: how answers are drawn.
    """

    model: str
    system: str
    sampling: Sampling


class Screen(Protocol):
    """Where a conversation is shown."""

    def show_all(self, bubbles: Sequence[Bubble]) -> None:
        """Show these messages and no others."""

    def put(self, bubble: Bubble) -> None:
        """Show a message, in place of the one with the same id."""

    def grow(self, bubble: Bubble, ended: str) -> None:
        """Add the HTML that has ended to a message, and show its open tail anew."""

    def busy(self, busy: bool) -> None:
        """Say whether an answer is under way."""


class Talk:
    """A conversation on a screen; its methods are called on the event loop and never wait.

    Args:
        screen: where it is shown.
        wish: tells how the visitor wants to be answered, asked anew for each answer.
    """

    def __init__(self, screen: Screen, wish: Callable[[], Wish]) -> None:
        self.conversation = Conversation()
        self.head: str | None = None
        self._screen = screen
        self._wish = wish
        self._bubbles: dict[str, Bubble] = {}
        self._asked: tuple[Node, Bubble] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said, from the first message to the newest."""
        return tuple(node.message for node in self.conversation.path(self.head))

    def show(self) -> None:
        """Show everything, for a page that has just opened."""
        self._screen.show_all(list(self._bubbles.values()))
        self._screen.busy(self._task is not None)

    def ask(self, text: str) -> None:
        """Ask; while an answer is under way, or when there is nothing to send, do nothing."""
        if self._task is None and text.strip():
            try:
                question = self.conversation.add(user(text), self.head)
            except InputError as error:
                self._put(Bubble("assistant", error=str(error)))
            else:
                self._put(Bubble("user", text, id=question.id))
                self._begin(question, Bubble("assistant", pending=True))
        self._screen.busy(self._task is not None)

    def retry(self) -> None:
        """Ask the last question again; the new answer stands beside the old one in the tree."""
        if self._task is None and self._asked is not None:
            question, before = self._asked
            self._begin(question, Bubble("assistant", id=before.id, pending=True))
        self._screen.busy(self._task is not None)

    def stop(self) -> None:
        """Stop the answer that is under way; what has come of it stays."""
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Wait until no answer is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _put(self, bubble: Bubble) -> None:
        self._bubbles[bubble.id] = bubble
        self._screen.put(bubble)

    def _begin(self, question: Node, answer: Bubble) -> None:
        self._asked = (question, answer)
        # An answer that fails leaves the conversation as it was before the question.
        self.head = question.parent
        self._put(answer)
        self._task = asyncio.get_running_loop().create_task(self._answer(question, answer))
        # A callback, since a task that is cancelled at once never runs its own `finally`.
        self._task.add_done_callback(lambda task: self._end(question, answer, task))

    def _end(self, question: Node, answer: Bubble, task: asyncio.Task[None]) -> None:
        self._task = None
        answer.pending = False
        if task.cancelled():
            answer.note = " · ".join(filter(None, (answer.note, "stopped")))
        if answer.text or not (answer.error or task.cancelled()):
            self.head = self.conversation.add(assistant(answer.text), question.id).id
        self._put(answer)
        self._screen.busy(False)

    async def _answer(self, question: Node, answer: Bubble) -> None:
        request = ""
        try:
            with telemetry.request() as request:
                await self._stream(question, answer)
        except ChatkitError as error:
            answer.error = str(error)
            answer.note = f"request {request}"
        except Exception:
            logging.getLogger(__name__).exception("request %s failed", request)
            answer.error = (
                "Something went wrong on the server; try again, "
                f"and if it comes back report the request {request}."
            )

    async def _stream(self, question: Node, answer: Bubble) -> None:
        wish = self._wish()
        answer.note = wish.model
        said = tuple(node.message for node in self.conversation.path(question.id))
        messages = (system(wish.system), *said) if wish.system.strip() else said
        pen = _Pen(self._screen, answer)
        try:
            async with shared_models().use(wish.model) as engine:
                prompt = await asyncio.to_thread(build_prompt, engine.template, messages)
                async with aclosing(observed(engine, prompt, wish.sampling)) as deltas:
                    async for delta in deltas:
                        pen.write(delta.text)
                        answer.note = small_print(wish.model, delta)
        finally:
            pen.flush()


class _Pen:
    """Writes an answer onto the screen, a few times a second however fast it comes."""

    def __init__(self, screen: Screen, answer: Bubble) -> None:
        self._screen = screen
        self._answer = answer
        self._markdown = GrowingMarkdown()
        self._waiting = ""
        self._due = 0.0

    def write(self, text: str) -> None:
        self._answer.text += text
        self._waiting += text
        if self._waiting and time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        began = time.monotonic()
        ended, self._answer.tail = self._markdown.add(self._waiting)
        self._waiting = ""
        self._answer.blocks.append(ended)
        self._screen.grow(self._answer, ended)
        # A long open block takes long to render; then it is rendered less often.
        spent = time.monotonic() - began
        self._due = began + max(SECONDS_BETWEEN_UPDATES, 10 * spent)
