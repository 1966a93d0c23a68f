"""One person who may sign in."""

import unicodedata
from dataclasses import dataclass
from typing import Literal, get_args

from chatkit.errors import InputError

Role = Literal["user", "admin"]
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Account:
    """A person who may sign in.

    Args:
        id: the user whose conversations they see.
        name: what they sign in with, often a mail address.
        role: an admin also sees the administration.
        enabled: whether they may sign in at all.
        created: when the account was made, in seconds since 1970.
        has_password: whether they can sign in with a password here.
    """

    id: str
    name: str
    role: Role
    enabled: bool
    created: float
    has_password: bool


def checked_account_name(name: str) -> str:
    """Give a name as it is stored.

    Raises:
        InputError: it is empty, too long, or has letters that nobody sees.
    """
    plain = " ".join(unicodedata.normalize("NFKC", name).split())
    if not plain:
        raise InputError("The name is empty; write one.")
    if len(plain) > LONGEST_NAME:
        raise InputError(f"The name has {len(plain)} characters and may have {LONGEST_NAME}.")
    if any(unicodedata.category(letter).startswith("C") for letter in plain):
        raise InputError("The name has characters that cannot be seen; leave them out.")
    return plain


def same_name(name: str) -> str:
    """Give what all spellings of one name share: capitals and widths do not count."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def checked_role(role: str) -> Role:
    """Give a role.

    Raises:
        InputError: there is none of this name.
    """
    for known in get_args(Role):
        if role == known:
            found: Role = known
            return found
    raise InputError(f"There is no role {role!r}; use one of {', '.join(get_args(Role))}.")
