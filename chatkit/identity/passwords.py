"""Passwords: which ones may be used, and what is kept of them."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from chatkit.errors import InputError
from chatkit.identity.account import same_name

SHORTEST, LONGEST = 12, 1024
# Each check takes 64 MiB, and as long as a guess is to cost.
_AT_ONCE = 2


class Passwords:
    """Hashes and checks passwords with Argon2id, a few at a time.

    The costs are the library's, those of RFC 9106 for little memory. A hash names its own costs,
    so raising them later locks nobody out.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        """Give what may be stored of a password."""
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def fits(self, hashed: str | None, password: str) -> bool:
        """Tell whether a password is the one; with no hash it is not, and takes as long."""
        if not self._nobodys:
            self._nobodys = await self.hash("nobody's password")
        async with self._turn:
            fits = await asyncio.to_thread(self._verify, hashed or self._nobodys, password)
        return fits and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Tell whether a hash was made with other costs than those of today."""
        return self._hasher.check_needs_rehash(hashed)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False


def checked_password(password: str, name: str) -> str:
    """Give a password that may be used; length counts, not kinds of characters (NIST SP 800-63B).

    Args:
        password: the new one.
        name: whose it will be.

    Raises:
        InputError: it is too short, too long, or easily guessed from the name.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise InputError(
            f"The password has {len(password):,} characters; use {SHORTEST} to {LONGEST:,}, "
            "some words in a row for example."
        )
    if len(set(password)) < 5:
        raise InputError("The password repeats a few characters; use some words in a row.")
    names = {same_name(name), same_name(name).partition("@")[0]}
    if any(len(one) > 3 and one in password.casefold() for one in names):
        raise InputError("The password holds the name; choose one that has nothing to do with it.")
    return password
