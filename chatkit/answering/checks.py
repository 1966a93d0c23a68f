"""What may be stored, and what is refused with a sentence."""

from chatkit.errors import InputError
from chatkit.messages import check_text

LONGEST_MESSAGE = 200_000
LONGEST_CLIENT_ID = 64


def checked_text(text: str) -> str:
    """Give a text that may be stored.

    Raises:
        InputError: it is empty, too long, or no text.
    """
    check_text(text)
    if not text.strip():
        raise InputError("The message is empty; write something to send.")
    if "\x00" in text:
        raise InputError(
            f"The message has a NUL byte at character {text.index(chr(0))}; take it out."
        )
    if len(text) > LONGEST_MESSAGE:
        raise InputError(
            f"The message has {len(text):,} characters and may have {LONGEST_MESSAGE:,}; "
            "send it in parts."
        )
    return text


def checked_client_id(client_id: str | None) -> str | None:
    """Give a client's own name for a message.

    Raises:
        InputError: it is empty or too long.
    """
    if client_id is not None and not 0 < len(client_id) <= LONGEST_CLIENT_ID:
        raise InputError(
            f"A client's name for a message has {len(client_id)} characters; "
            f"use 1 to {LONGEST_CLIENT_ID}."
        )
    return client_id


def checked_title(title: str) -> str:
    """Give a title on one line.

    Raises:
        InputError: it is no text.
    """
    check_text(title)
    return " ".join(title.replace("\x00", " ").split())
