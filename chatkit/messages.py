"""A message: the one value that chat, fine-tuning data and evaluation samples share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from chatkit.errors import InputError

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)
# The definition of a function, as OpenAI's API and the field's templates write it.
Tool = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the assistant asks to have called, with its arguments as JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """What one participant said, as a frozen value.

    Args:
        role: who speaks: system, user, assistant or tool.
        content: the text; it is always text, never control tokens.
        name: the speaker's name, where a template uses one.
        tool_calls: the calls an assistant asks for.
        reasoning: the assistant's thinking, kept apart from the answer.

    Raises:
        InputError: the role is unknown, or the content is not text that UTF-8 can hold.
    """

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"A message's role is {self.role!r}; use one of {', '.join(ROLES)}.")
        if not isinstance(self.content, str):
            raise InputError(
                f"A message's content is a {type(self.content).__name__}; it must be text."
            )
        check_text(self.content)


def system(content: str) -> Message:
    """Make a system message."""
    return Message("system", content)


def user(content: str) -> Message:
    """Make a user's message."""
    return Message("user", content)


def assistant(content: str) -> Message:
    """Make an assistant's message."""
    return Message("assistant", content)


def as_messages(messages: Sequence[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Accept messages as values or as the field's `{"role", "content"}` dictionaries.

    Raises:
        InputError: a dictionary lacks role or content, or has a key that no message has.
    """
    return tuple(m if isinstance(m, Message) else _from_mapping(m) for m in messages)


def check_text(text: str) -> None:
    """Refuse text with lone surrogates, which no tokenizer and no store can hold.

    Raises:
        InputError: the text is not valid Unicode.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"The text is not valid Unicode at character {error.start}; send it as UTF-8."
        ) from None


def _from_mapping(mapping: Mapping[str, Any]) -> Message:
    unknown = set(mapping) - {"role", "content", "name"}
    if unknown or "role" not in mapping or "content" not in mapping:
        raise InputError(
            f"A message needs the keys role and content (and perhaps name); got {sorted(mapping)}."
        )
    return Message(mapping["role"], mapping["content"], mapping.get("name"))
