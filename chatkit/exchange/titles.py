"""A title for a conversation that came without one."""

from collections.abc import Iterable

from chatkit.messages import Message

_WORDS = 8
_CHARACTERS = 60
_UNTITLED = "Untitled"


def title_from(messages: Iterable[Message]) -> str:
    """Give the first words of the first question."""
    question = next((m.content for m in messages if m.role == "user" and m.content.strip()), "")
    words = " ".join(question[: 10 * _CHARACTERS].split()[:_WORDS])
    return words[:_CHARACTERS].strip() or _UNTITLED
