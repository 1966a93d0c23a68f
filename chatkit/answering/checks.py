"""What may be stored, and what is refused with a sentence."""

import json
from collections.abc import Mapping
from typing import Any

from chatkit.errors import InputError
from chatkit.messages import check_text
from chatkit.store.conversations import NewConversation
from chatkit.store.records import ConversationSettings, Feedback, VoteRecord

LONGEST_MESSAGE = 200_000
LONGEST_CLIENT_ID = 64
LONGEST_USER = 64
LONGEST_NAME = 32


def is_name(text: str) -> bool:
    """Tell whether a conversation or a message could have this name."""
    return text.isascii() and text.isalnum() and len(text) <= LONGEST_NAME


def checked_text(text: str) -> str:
    """Give a text that may be stored.

    Raises:
        InputError: it is empty, too long, or no text.
    """
    _check("message", text)
    if not text.strip():
        raise InputError("The message is empty; write something to send.")
    return text


def checked_client_id(client_id: str | None) -> str | None:
    """Give a client's own name for a message.

    Raises:
        InputError: it is empty, too long, or no line of text.
    """
    if client_id is not None:
        _check_line("client's name for a message", client_id, LONGEST_CLIENT_ID)
    return client_id


def checked_user(user: str) -> str:
    """Give a user's name.

    Raises:
        InputError: it is empty, too long, or no line of text.
    """
    _check_line("user's name", user, LONGEST_USER)
    return user


def checked_settings(settings: ConversationSettings) -> ConversationSettings:
    """Give settings that may be stored.

    Raises:
        InputError: the system prompt is too long, or no text.
    """
    _check("system prompt", settings.system or "")
    return settings


def checked_opinion(opinion: Feedback) -> Feedback:
    """Give feedback that may be stored.

    Raises:
        InputError: the comment and the tags together are too long, or no text.
    """
    _check("feedback", " ".join((opinion.comment, *opinion.tags)))
    return opinion


def checked_vote(vote: VoteRecord) -> VoteRecord:
    """Give a vote that may be stored.

    Raises:
        InputError: a name or a text is too long, or no text.
    """
    for text in (vote.first, vote.second, vote.first_answer, vote.second_answer):
        _check("text of a vote", text)
    for message in vote.prompt:
        _check("prompt of a vote", message.content)
    return vote


def checked_preferences(preferences: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give preferences that may be stored.

    Raises:
        InputError: they are too long, or no text.
    """
    _check("preferences", json.dumps(dict(preferences), ensure_ascii=False))
    return preferences


def checked_new(settings: ConversationSettings | None, title: str, id: str) -> NewConversation:
    """Make a conversation that may be begun.

    Raises:
        InputError: the title or the system prompt is no text, or too long.
    """
    return NewConversation(
        checked_settings(settings or ConversationSettings()), checked_title(title), id=id
    )


def checked_title(title: str) -> str:
    """Give a title on one line.

    Raises:
        InputError: it is no text.
    """
    check_text(title)
    return " ".join(title.replace("\x00", " ").split())


def _check(what: str, text: str) -> None:
    check_text(text)
    if "\x00" in text:
        raise InputError(
            f"The {what} has a NUL byte at character {text.index(chr(0))}; take it out."
        )
    if len(text) > LONGEST_MESSAGE:
        raise InputError(
            f"The {what} has {len(text):,} characters and may have {LONGEST_MESSAGE:,}; "
            "make it shorter."
        )


def _check_line(what: str, text: str, longest: int) -> None:
    if not 0 < len(text) <= longest or not text.isprintable():
        raise InputError(
            f"A {what} has {len(text)} characters; use 1 to {longest}, all of them printable."
        )
