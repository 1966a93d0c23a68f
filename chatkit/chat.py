"""The one path of a message: the app, the API, the terminal and the notebooks all go through it."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import NamedTuple

from chatkit import telemetry
from chatkit.answering.checks import checked_client_id, checked_new, checked_text, checked_user
from chatkit.answering.job import Job
from chatkit.answering.options import AnswerOptions
from chatkit.cache import AnswerCache
from chatkit.errors import ChatkitError, InputError
from chatkit.live.event import Event
from chatkit.messages import assistant
from chatkit.messages import user as user_message
from chatkit.rooms import Room, temporary_id
from chatkit.shelf import Shelf
from chatkit.store.new_node import NewNode
from chatkit.store.records import AnswerFacts, ConversationSettings

EXPIRE_SECONDS = 3_600.0


class Turn(NamedTuple):
    """The names of a question and of the answer that is being written to it."""

    question: str
    answer: str


class ChatService(Shelf):
    """Sends, regenerates, edits, stops, branches, and tells everybody who watches.

    It belongs to one event loop. Each method names the user; what is someone else's does not
    exist for them.

    Args:
        lasting: the room of conversations that are kept.
        temporary: the room of conversations that leave no trace.
        answers: answers that were given before.
        titles: whether the model gives new conversations a title.
        retention_days: after how many days conversations go; None keeps them.
    """

    def __init__(
        self,
        lasting: Room,
        temporary: Room,
        answers: AnswerCache,
        *,
        titles: bool = True,
        retention_days: float | None = None,
    ) -> None:
        super().__init__(lasting, temporary, answers)
        self._titles = titles
        self._retention_days = retention_days
        self._expiring: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Give the first sign of life, and begin to let old conversations go.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        for room in (self.lasting, self.temporary):
            await room.open()
        self._expiring = asyncio.create_task(self._expire())

    async def close(self) -> None:
        """End running answers as interrupted, and close everything."""
        if self._expiring is not None:
            self._expiring.cancel()
            with suppress(asyncio.CancelledError):
                await self._expiring
        for room in (self.lasting, self.temporary):
            await room.close()

    async def begin(
        self,
        user: str,
        settings: ConversationSettings | None = None,
        *,
        title: str = "",
        temporary: bool = False,
    ) -> str:
        """Begin a conversation and give its name.

        Args:
            user: whose it is.
            settings: how it is answered.
            title: what lists show; the first words of the first question when empty.
            temporary: keep it in memory only: it is in no list, no search and no backup, and ends
                with this process.
        """
        room = self.temporary if temporary else self.lasting
        new = checked_new(settings, title, temporary_id() if temporary else "")
        return await room.store.conversations.begin(checked_user(user), new)

    async def send(
        self,
        user: str,
        conversation: str,
        text: str,
        options: AnswerOptions,
        *,
        client_id: str | None = None,
        parent: str | None = "head",
    ) -> Turn:
        """Store a question; when this returns it is on disk and its answer is under way.

        Args:
            user: who asks.
            conversation: where.
            text: the question.
            options: who answers, and how.
            client_id: the sender's own name for this question: sent again, it is the same one.
            parent: the message that it follows, None begins anew; `head` is where its reader
                stands.

        Raises:
            InputError: the text is empty, too long, or no text.
            NotFound: the conversation or the parent does not exist, or is someone else's.
        """
        record = await self.room(conversation, parent).store.conversations.find(user, conversation)
        after = record.head if parent == "head" else parent
        question = NewNode(user_message(checked_text(text)), after, checked_client_id(client_id))
        turn = await self._ask(user, conversation, question, options)
        telemetry.acted(options.model, "send")
        return turn

    async def regenerate(
        self,
        user: str,
        conversation: str,
        node: str,
        options: AnswerOptions,
        *,
        client_id: str | None = None,
    ) -> Turn:
        """Ask the same question again; the new answer stands beside the old ones.

        Args:
            user: who asks.
            conversation: where.
            node: an answer, or the question itself.
            options: who answers this time, and how.
            client_id: the sender's own name for this wish: sent again, it is the same one.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
            InputError: the message answers nothing.
        """
        room = self.room(conversation, node)
        found = await room.store.nodes.find(user, conversation, node)
        question = found.id if found.message.role == "user" else found.parent
        if question is None:
            raise InputError(f"The message {node!r} answers nothing; regenerate an answer.")
        answer = _awaited(question, options, room.worker, client_id)
        (id,) = await room.store.nodes.add(user, conversation, [answer], head=answer.id)
        if id == answer.id:
            await self._begin(user, conversation, answer, options)
        telemetry.acted(options.model, "regenerate")
        return Turn(question, id)

    async def edit(
        self,
        user: str,
        conversation: str,
        node: str,
        text: str,
        options: AnswerOptions,
        *,
        client_id: str | None = None,
    ) -> Turn:
        """Put another text in a message's place; the old one stays as its sibling.

        A new question is asked; a new answer is the person's own, and nothing is asked.

        Raises:
            InputError: the text is empty, too long, or no text.
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        room = self.room(conversation, node)
        found = await room.store.nodes.find(user, conversation, node)
        telemetry.acted(options.model, "edit")
        if found.message.role == "user":
            new = NewNode(
                user_message(checked_text(text)), found.parent, checked_client_id(client_id)
            )
            return await self._ask(user, conversation, new, options)
        answer = NewNode(assistant(checked_text(text)), found.parent, checked_client_id(client_id))
        (id,) = await room.store.nodes.add(user, conversation, [answer], head=answer.id)
        return Turn(found.parent or "", id)

    async def stop(self, user: str, conversation: str, node: str) -> None:
        """End an answer, whichever process writes it; what has come of it stays.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        room = self.room(conversation, node)
        found = await room.store.nodes.find(user, conversation, node)
        if found.facts is None or not found.facts.open:
            return
        telemetry.acted(found.facts.model, "stop")
        if not room.desk.stop(node):
            await room.store.answers.ask_to_stop(user, conversation, node)

    async def subscribe(
        self, user: str, conversation: str, node: str, after: int = 0
    ) -> AsyncGenerator[Event, None]:
        """Give an answer's events after a number, and end with the final one.

        An answer that is over is given as one `snapshot` and its end. So is what was missed when
        the log has lost it.

        Args:
            user: who watches.
            conversation: where.
            node: the answer.
            after: the number of the last event that is known already; 0 gives all.

        Raises:
            NotFound: the conversation or the answer does not exist, or is someone else's.
        """
        room = self.room(conversation, node)
        seal = await room.store.keys.of_conversation(user, conversation)
        async with aclosing(room.desk.follow((user, conversation, node), seal, after)) as events:
            async for event in events:
                yield event

    async def expire(self, now: float) -> tuple[str, ...]:
        """Delete what is older than its user's retention, or than everybody's, and name it.

        Args:
            now: the present, in seconds since 1970.
        """
        gone = await self.store.erasure.expire(self._retention_days, now)
        self.forget(gone)
        return gone

    async def _ask(
        self, user: str, conversation: str, question: NewNode, options: AnswerOptions
    ) -> Turn:
        """Store a question with its answer to be, and begin to write that."""
        room = self.room(conversation)
        answer = _awaited(question.id, options, room.worker)
        new = [question, answer]
        names = await room.store.nodes.add(user, conversation, new, head=answer.id)
        if names[0] == question.id:
            job = await self._begin(user, conversation, answer, options)
            if question.parent is None:
                room.desk.entitle(job, question.message.content, by_model=self._titles)
        return Turn(names[0], names[-1])

    async def _begin(
        self, user: str, conversation: str, answer: NewNode, options: AnswerOptions
    ) -> Job:
        room = self.room(conversation)
        seal = await room.store.keys.of_conversation(user, conversation)
        assert answer.facts is not None and answer.parent is not None
        job = Job(
            user=user,
            conversation=conversation,
            question=answer.parent,
            node=answer.id,
            options=options,
            seal=seal,
            request_id=answer.facts.request_id,
        )
        room.desk.begin(job)
        return job

    async def _expire(self) -> None:
        while True:
            try:
                await self.expire(time.time())
            except ChatkitError as error:
                telemetry.failed(error)
            await asyncio.sleep(EXPIRE_SECONDS)


def _awaited(
    question: str, options: AnswerOptions, worker: str, client_id: str | None = None
) -> NewNode:
    """Make the node of an answer that is still to come."""
    facts = AnswerFacts(
        status="queued",
        model=options.model,
        request_id=telemetry.request_id() or secrets.token_hex(8),
        adapter=options.adapter,
        seed=options.sampling.seed,
        sampling=options.sampling.model_dump(mode="json", exclude_defaults=True),
    )
    return NewNode(
        assistant(""), question, checked_client_id(client_id), facts=facts, worker=worker
    )
