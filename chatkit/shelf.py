"""A user's conversations apart from asking: lists, shows, renames, forks, searches and deletes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatkit import telemetry
from chatkit.answering.checks import (
    LONGEST_NAME,
    checked_opinion,
    checked_preferences,
    checked_settings,
    checked_title,
    checked_user,
    checked_vote,
    is_name,
)
from chatkit.cache import AnswerCache
from chatkit.errors import InputError
from chatkit.exchange.portable import Portable
from chatkit.identity.identity import Identity
from chatkit.ledger import Ledger
from chatkit.rooms import Room, is_temporary, temporary_id
from chatkit.store.conversations import Cursor, NewConversation
from chatkit.store.keys import no_conversation
from chatkit.store.nodes import no_message
from chatkit.store.opening import Store
from chatkit.store.portable import to_portable
from chatkit.store.records import (
    ConversationRecord,
    ConversationSettings,
    Feedback,
    NodeRecord,
    VoteRecord,
)
from chatkit.store.search import Hit
from chatkit.store.usage import Usage

# Who talks in a notebook or a terminal of their own.
LOCAL_USER = "local"


@dataclass(frozen=True, slots=True)
class Shown:
    """One message as a screen shows it.

    Args:
        node: the message.
        siblings: the messages in its place, oldest first, itself included.
        feedback: what its reader thinks of it.
    """

    node: NodeRecord
    siblings: tuple[str, ...]
    feedback: Feedback


@dataclass(frozen=True, slots=True)
class Page:
    """What a screen shows of a conversation.

    Args:
        conversation: its title, settings and head.
        messages: the newest on the path, oldest first.
        more: whether there are older ones on the path.
    """

    conversation: ConversationRecord
    messages: tuple[Shown, ...]
    more: bool


class Shelf:
    """All conversations, on disk and in memory; what is someone else's does not exist.

    Args:
        lasting: the room of conversations that are kept.
        temporary: the room of conversations that leave no trace.
        answers: answers that were given before.
    """

    def __init__(self, lasting: Room, temporary: Room, answers: AnswerCache) -> None:
        self.lasting = lasting
        self.temporary = temporary
        self.answers = answers
        self.identity = Identity(lasting.store)

    @property
    def store(self) -> Store:
        """The store of conversations that are kept."""
        return self.lasting.store

    def room(self, conversation: str, node: str | None = None) -> Room:
        """Tell where a conversation lives; names of no possible shape are nobody's.

        Raises:
            NotFound: the conversation or the message cannot exist.
        """
        if not is_name(conversation):
            raise no_conversation(conversation[:LONGEST_NAME])
        if node is not None and not is_name(node):
            raise no_message(node[:LONGEST_NAME])
        return self.temporary if is_temporary(conversation) else self.lasting

    async def conversations(
        self, user: str, limit: int = 50, before: Cursor | None = None
    ) -> tuple[ConversationRecord, ...]:
        """List a user's conversations, newest first; temporary ones are in no list."""
        return await self.store.conversations.page(user, limit, before)

    async def conversations_named(
        self, user: str, ids: Iterable[str]
    ) -> tuple[ConversationRecord, ...]:
        """Give those of some conversations that are kept and are the user's, in no order."""
        return await self.store.conversations.some(user, ids)

    async def conversation(self, user: str, id: str) -> ConversationRecord:
        """Find one conversation.

        Raises:
            NotFound: it does not exist, or is someone else's.
        """
        return await self.room(id).store.conversations.find(user, id)

    async def page(
        self, user: str, conversation: str, *, head: str | None = None, limit: int = 30
    ) -> Page:
        """Give what a screen shows: the newest messages on a path, with their siblings.

        Args:
            user: who looks.
            conversation: where.
            head: the end of the path; None is where the reader stands. For older messages name
                the parent of the oldest one shown.
            limit: how many messages at most.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        store = self.room(conversation, head or None).store
        record = await store.conversations.find(user, conversation)
        path = await store.nodes.path(user, conversation, head or record.head, limit)
        siblings = await store.nodes.siblings(user, conversation, {node.parent for node in path})
        opinions = await store.opinions.on(user, conversation, [node.id for node in path])
        shown = tuple(
            Shown(node, siblings[node.parent], opinions.get(node.id, Feedback())) for node in path
        )
        return Page(record, shown, bool(path and path[0].parent))

    async def select_branch(self, user: str, conversation: str, node: str) -> str:
        """Go to the newest branch that leads through a message.

        Returns: the end of that branch, where the reader now stands.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        nodes = self.room(conversation, node).store.nodes
        leaf = await nodes.leaf(user, conversation, node)
        await nodes.set_head(user, conversation, leaf)
        return leaf

    async def fork(self, user: str, conversation: str, node: str) -> str:
        """Copy the path to a message into a new conversation, which knows where it came from.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        store = self.room(conversation, node).store
        record = await store.conversations.find(user, conversation)
        path = await store.nodes.path(user, conversation, node)
        id = temporary_id() if is_temporary(conversation) else ""
        new = NewConversation(record.settings, record.title, (conversation, node), id)
        return await store.copies.fork(user, new, path)

    async def rename(self, user: str, conversation: str, title: str) -> None:
        """Give a conversation another title.

        Raises:
            InputError: the title is empty or no text.
            NotFound: the conversation does not exist, or is someone else's.
        """
        title = checked_title(title)
        if not title:
            raise InputError("The title is empty; write one.")
        await self.room(conversation).store.conversations.rename(user, conversation, title)

    async def configure(self, user: str, conversation: str, settings: ConversationSettings) -> None:
        """Change how a conversation is answered from now on.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """
        store = self.room(conversation).store
        await store.conversations.configure(user, conversation, checked_settings(settings))

    async def feedback(self, user: str, conversation: str, node: str, opinion: Feedback) -> None:
        """Note what a user thinks of an answer, in place of what was thought before.

        Raises:
            InputError: the message is no answer.
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        store = self.room(conversation, node).store
        await store.opinions.give(user, conversation, node, checked_opinion(opinion))
        found = await store.nodes.find(user, conversation, node)
        if opinion.thumb and found.facts:
            telemetry.acted(found.facts.model, f"thumb {opinion.thumb}")

    async def vote(self, user: str, vote: VoteRecord) -> str:
        """Store which of two answers a user finds better, and give the vote's name.

        Raises:
            InputError: a text of it is too long, or no text.
        """
        id = await self.store.votes.cast(checked_user(user), checked_vote(vote))
        for model in (vote.first, vote.second):
            telemetry.acted(model, "vote")
        return id

    async def votes(self, user: str) -> dict[str, VoteRecord]:
        """Give a user's votes by name, the oldest first."""
        return await self.store.votes.of(user)

    async def take_back_vote(self, user: str, id: str) -> None:
        """Delete a vote.

        Raises:
            NotFound: there is none of this name, or it is someone else's.
        """
        await self.store.votes.take_back(user, id)

    async def preferences(self, user: str) -> dict[str, Any]:
        """Give what a user prefers, by the name of who asked; empty when nothing was set."""
        return await self.store.opinions.preferences(user)

    async def prefer(self, user: str, preferences: Mapping[str, Any]) -> None:
        """Store what a user prefers, in place of what was set before.

        Raises:
            InputError: it is too long, or no text.
        """
        checked_preferences(preferences)
        await self.store.opinions.prefer(checked_user(user), preferences)

    async def pin(self, user: str, conversation: str, node: str, pinned: bool = True) -> None:
        """Keep a message in the model's window, or no longer.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        room = self.room(conversation, node)
        await room.store.nodes.pin(user, conversation, node, pinned)
        room.paths.forget(conversation)

    async def ledger(self, user: str, conversation: str, node: str) -> Ledger | None:
        """Give what was put into the model's window for an answer, and what was left out.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """
        answers = self.room(conversation, node).store.answers
        text = await answers.ledger(user, conversation, node)
        return Ledger.from_json(json.loads(text)) if text else None

    async def usage(self, actor: str, since: float) -> Usage:
        """Count what everybody's answers came to, since a moment in seconds since 1970.

        Raises:
            Forbidden: the actor is no admin.
        """
        await self.identity.check_admin(actor)
        return await self.store.usage.since(since)

    async def speed(self, model: str) -> float | None:
        """Tell how many tokens a second a model has written here lately; None when it has not."""
        return await self.store.usage.speed(model)

    async def audit_log(self, actor: str, limit: int) -> tuple[dict[str, Any], ...]:
        """Give the last entries of the audit log, newest first.

        Raises:
            Forbidden: the actor is no admin.
        """
        await self.identity.check_admin(actor)
        return await self.store.audit.newest(limit)

    async def search(self, user: str, query: str, limit: int = 20) -> tuple[Hit, ...]:
        """Find a user's messages by their words, the best first.

        Raises:
            InputError: the query has no word.
        """
        with telemetry.request():
            return await self.store.search.find(user, query, limit)

    async def export(
        self, user: str, conversations: Iterable[str] | None = None
    ) -> tuple[Portable, ...]:
        """Give conversations whole, in the form that travels.

        Args:
            user: whose.
            conversations: which ones; all that are kept when None.

        Raises:
            NotFound: one of them does not exist, or is someone else's.
        """
        ids = await self.store.conversations.ids(user) if conversations is None else conversations
        found: list[Portable] = []
        for id in ids:
            store = self.room(id).store
            record = await store.conversations.find(user, id)
            tree = await store.nodes.tree(user, id)
            opinions = await store.opinions.on(user, id, [node.id for node in tree])
            found.append(to_portable(record, tree, opinions))
            await store.audit.note(user, "export", id)
        return tuple(found)

    async def import_conversations(
        self, user: str, portables: Sequence[Portable]
    ) -> tuple[str, ...]:
        """Store conversations from elsewhere as new ones, all or none of them.

        Returns: their new names, in order.
        """
        return await self.store.copies.take_in(checked_user(user), portables)

    async def delete(self, user: str, conversation: str) -> None:
        """Delete a conversation for good: keys, texts, search entries, caches and live logs.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """
        await self._silence(user, [conversation])
        await self.room(conversation).store.erasure.conversation(user, conversation)

    async def delete_branch(self, user: str, conversation: str, node: str) -> None:
        """Delete a message and all that came after it; the reader goes to what is beside it.

        Raises:
            NotFound: the conversation or the message does not exist, or is someone else's.
        """
        room = self.room(conversation, node)
        gone = await room.store.pruning.below(user, conversation, node)
        await room.silence(user, conversation, frozenset(gone))
        await room.store.pruning.branch(user, conversation, node)
        self.forget([conversation])

    async def delete_user(self, user: str, actor: str | None = None) -> None:
        """Delete a person with all that belongs to them.

        Args:
            user: who goes.
            actor: who asked for it; the person themselves when None.
        """
        for room in (self.lasting, self.temporary):
            await self._silence(user, await room.store.conversations.ids(user))
            await room.store.erasure.user(user, actor)
        self.answers.forget(user)

    async def set_retention(self, user: str, days: float | None) -> None:
        """Let a user's conversations go so many days after their last message; None keeps them.

        Raises:
            InputError: the number of days is not above 0.
        """
        await self.store.erasure.set_retention(checked_user(user), days)

    async def _silence(self, user: str, conversations: Iterable[str]) -> None:
        """Stop what is being written and forget what was remembered, before it is deleted."""
        for id in conversations:
            await self.room(id).silence(user, id)
            self.forget([id])

    def forget(self, conversations: Iterable[str]) -> None:
        """Let nothing of some conversations stay in this process's memories."""
        for id in conversations:
            self.room(id).forget(id)
            self.answers.forget_conversation(id)
