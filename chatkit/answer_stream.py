"""One answer of the chat service for callers that are not asynchronous."""

from collections.abc import Iterator

from chatkit.background import iterate, wait_for
from chatkit.chat import ChatService, Turn
from chatkit.display import Display
from chatkit.engine import Delta, Usage
from chatkit.errors import ChatkitError, error_of
from chatkit.live.event import Event
from chatkit.reply import Reply
from chatkit.shelf import LOCAL_USER
from chatkit.store.records import NodeRecord


class AnswerStream:
    """An answer that is under way in a conversation of the local user.

    Args:
        service: writes it.
        conversation: where.
        turn: the question and the answer.
    """

    def __init__(self, service: ChatService, conversation: str, turn: Turn) -> None:
        self.head: str | None = turn.answer
        self._service = service
        self._conversation = conversation
        self._turn = turn

    def deltas(self) -> Iterator[Delta]:
        """Give the pieces as they come; leaving early stops the answer, and what came stays.

        When it is over `head` is where the conversation goes on: at the answer, or before the
        question when nothing came.

        Raises:
            ChatkitError: as it failed.
        """
        end: Event | None = None
        try:
            for event in iterate(self._service.subscribe(*self._place)):
                if event.final:
                    end = event
                elif event.text:
                    yield Delta(event.text)
        finally:
            failure = self._ended(end or self._stop())
        if failure is not None:
            raise failure
        if end is not None and end.kind == "done":
            yield Delta("", end.facts["finish"], _usage(end))

    def show_on(self, display: Display) -> Reply:
        """Show the pieces as they come, and give the whole answer at its end.

        Ctrl-C stops the answer; when something of it has come that is what is given.

        Raises:
            ChatkitError: as it failed.
            KeyboardInterrupt: it was stopped before anything came.
        """
        last, shown = Delta(""), 0
        display.begin()
        try:
            for last in self.deltas():
                display.show(last.text)
                shown += len(last.text)
        except KeyboardInterrupt:
            if self.head != self._turn.answer:
                raise
            # What came between the last piece shown and the stop is in the conversation too.
            display.show(self._stored().message.content[shown:])
            last = Delta("")
        finally:
            display.end()
        text = self._stored().message.content
        return Reply(text, last.finish or "stopped", last.usage, self._turn.answer)

    def _stored(self) -> NodeRecord:
        nodes = self._service.room(self._conversation).store.nodes
        return wait_for(nodes.find(*self._place))

    @property
    def _place(self) -> tuple[str, str, str]:
        return LOCAL_USER, self._conversation, self._turn.answer

    def _stop(self) -> Event:
        """Stop the answer, and wait until that is stored."""
        wait_for(self._service.stop(*self._place))
        *_, end = iterate(self._service.subscribe(*self._place))
        return end

    def _ended(self, end: Event) -> ChatkitError | None:
        """Step back when nothing came; give the error with which it failed."""
        nodes = self._service.room(self._conversation).store.nodes
        answer = self._stored()
        if not answer.message.content and end.kind != "done":
            question = wait_for(nodes.find(LOCAL_USER, self._conversation, self._turn.question))
            self.head = question.parent
            wait_for(nodes.set_head(LOCAL_USER, self._conversation, self.head))
        error = answer.facts.error if answer.facts else None
        return error_of(*error) if error else None


def _usage(end: Event) -> Usage:
    """Put together what the last event says of an answer's costs."""
    facts, seconds = end.facts, end.facts["stage_seconds"]
    queued = seconds.get("queue", 0.0)
    first = queued + seconds.get("first token", 0.0)
    return Usage(
        prompt_tokens=facts["prompt_tokens"] or 0,
        cached_tokens=facts["cached_tokens"] or 0,
        completion_tokens=facts["completion_tokens"] or 0,
        queued_seconds=queued,
        first_token_seconds=first,
        total_seconds=first + seconds.get("writing", 0.0),
    )
