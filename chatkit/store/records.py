"""What the store gives: conversations and messages with their facts, opened and ready to use."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from chatkit.conversation import Node
from chatkit.errors import InputError
from chatkit.messages import Message, Role, ToolCall

Ending = Literal["done", "stopped", "interrupted", "failed"]
Status = Literal["queued", "running", "done", "stopped", "interrupted", "failed"]
Kind = Literal["message", "summary"]
Policy = Literal["sliding", "summarise", "refuse"]


@dataclass(frozen=True, slots=True)
class ConversationSettings:
    """How a conversation is answered.

    Args:
        system: the system prompt, None leaves it to the template.
        policy: what happens when it outgrows the model's window.

    Raises:
        InputError: the policy is unknown.
    """

    system: str | None = None
    policy: Policy = "sliding"

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise InputError(
                f"There is no context policy {self.policy!r}; use {', '.join(get_args(Policy))}."
            )


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """One conversation, without its messages.

    Args:
        id: its name.
        user: whose it is.
        title: what lists show.
        titled_by: who wrote the title: `nobody` yet, the `model` or the `person`.
        settings: how it is answered.
        created: when, in seconds since 1970.
        updated: when something was last said.
        forked_from: the conversation that it was copied from, and at which message.
        head: the message at which its reader stands, None before the first one.
    """

    id: str
    user: str
    title: str
    titled_by: Literal["nobody", "model", "person"]
    settings: ConversationSettings
    created: float
    updated: float
    forked_from: tuple[str, str] | None
    head: str | None


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """How an answer came about, apart from its text.

    Args:
        status: how far it has come, or how it ended.
        model: the name of the model.
        adapter: the adapter on it, None without one.
        template_identity: the hash of the template that rendered the prompt.
        seed: the seed that was asked for.
        finish: why the model ended.
        prompt_tokens: tokens of the prompt; None when no prompt was read.
        cached_tokens: how many of them were not read again.
        completion_tokens: tokens of the answer.
        stage_seconds: what each stage took.
        error: what went wrong, as its kind and the sentence for the person.
        flushed: the number of the last event whose text is stored.
        request_id: its name in logs.
        sampling: how it was drawn.
    """

    status: Status
    model: str
    request_id: str
    adapter: str | None = None
    template_identity: str | None = None
    seed: int | None = None
    finish: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    flushed: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether more is to come."""
        return self.status in ("queued", "running")


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One stored message.

    Args:
        id: its name.
        number: its place in the order in which messages came.
        parent: the message before it.
        kind: `message`, or the `summary` of what stands before it.
        message: what was said.
        created: when, in seconds since 1970.
        pinned: whether it stays in the model's window.
        facts: how an answer came about; None for a question and for a text that a person wrote.
    """

    id: str
    number: int
    parent: str | None
    kind: Kind
    message: Message
    created: float
    pinned: bool = False
    facts: AnswerFacts | None = None

    @property
    def as_node(self) -> Node:
        """The same message as part of a tree in memory."""
        return Node(self.id, self.parent, self.message, datetime.fromtimestamp(self.created, UTC))


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person thinks of an answer.

    Args:
        thumb: up, down, or None when it was taken back.
        tags: reasons in a word each.
        comment: reasons in a sentence.

    Raises:
        InputError: the thumb is neither up nor down.
    """

    thumb: Literal["up", "down"] | None = None
    tags: tuple[str, ...] = ()
    comment: str = ""

    def __post_init__(self) -> None:
        if self.thumb not in ("up", "down", None):
            raise InputError(f"A thumb is {self.thumb!r}; it is up, down or None.")


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """Which of two answers to the same prompt a person finds better.

    Args:
        prompt: what was asked, a conversation that ends with a question.
        first: the name of a model.
        second: of another.
        first_answer: what the first said.
        second_answer: what the second said.
        won: 1 for the first, 0 for the second, a half for neither.
        blind: whether the voter did not see the names.

    Raises:
        InputError: `won` is none of the three, or both are the same model.
    """

    prompt: tuple[Message, ...]
    first: str
    second: str
    first_answer: str
    second_answer: str
    won: float
    blind: bool

    def __post_init__(self) -> None:
        if self.won not in (0, 0.5, 1):
            raise InputError(f"A vote is 1, 0 or 0.5, not {self.won}.")
        if self.first == self.second:
            raise InputError("A vote is on two models; name another one.")


def message_to_text(message: Message) -> str:
    """Write a message, less its role, as the text that is sealed."""
    body: dict[str, Any] = {"content": message.content}
    if message.name is not None:
        body["name"] = message.name
    if message.reasoning:
        body["reasoning"] = message.reasoning
    if message.tool_calls:
        body["tool_calls"] = [[call.id, call.name, call.arguments] for call in message.tool_calls]
    return json.dumps(body, ensure_ascii=False)


def message_from_text(role: Role, text: str) -> Message:
    """Read what `message_to_text` wrote."""
    body = json.loads(text)
    return Message(
        role,
        body["content"],
        body.get("name"),
        tuple(ToolCall(*call) for call in body.get("tool_calls", ())),
        body.get("reasoning", ""),
    )


def settings_to_text(settings: ConversationSettings) -> str:
    """Write settings as the text that is sealed."""
    return json.dumps({"system": settings.system, "policy": settings.policy}, ensure_ascii=False)


def settings_from_text(text: str) -> ConversationSettings:
    """Read what `settings_to_text` wrote."""
    return ConversationSettings(**json.loads(text))
