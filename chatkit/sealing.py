"""Seals text so that only who holds the key can read it (AES-256-GCM, NIST SP 800-38D)."""

import os
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from chatkit.errors import KeyUnavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
# The first byte says how the rest was written; neither seal takes the other's for its own, or who
# can write to the database could put words into a sealed conversation.
_PLAIN = b"\x00"
_AES_256_GCM = b"\x01"


class Seal(Protocol):
    """Turns text into bytes that may be stored, and back."""

    def close(self, text: str, about: str) -> bytes:
        """Seal a text.

        Args:
            text: what to keep.
            about: where it belongs, such as `node:12ab`; it opens nowhere else.
        """
        ...

    def open(self, sealed: bytes, about: str) -> str:
        """Read a sealed text.

        Raises:
            KeyUnavailable: it was sealed with another key, for another place, or was changed.
        """
        ...


class KeySeal:
    """Seals with one key.

    Args:
        key: 32 random bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def close(self, text: str, about: str) -> bytes:
        """Seal a text; see `Seal.close`."""
        return self.close_bytes(text.encode("utf-8"), about)

    def open(self, sealed: bytes, about: str) -> str:
        """Read a sealed text; see `Seal.open`."""
        return self.open_bytes(sealed, about).decode("utf-8")

    def close_bytes(self, plain: bytes, about: str) -> bytes:
        """Seal bytes, such as another key."""
        nonce = os.urandom(NONCE_BYTES)
        return _AES_256_GCM + nonce + self._cipher.encrypt(nonce, plain, about.encode())

    def open_bytes(self, sealed: bytes, about: str) -> bytes:
        """Read sealed bytes.

        Raises:
            KeyUnavailable: as `Seal.open`.
        """
        if sealed[:1] != _AES_256_GCM:
            raise _unreadable(about)
        nonce, rest = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, rest, about.encode())
        except self._refusals:
            raise _unreadable(about) from None

    @cached_property
    def _refusals(self) -> tuple[type[Exception], ...]:
        from cryptography.exceptions import InvalidTag

        return InvalidTag, ValueError

    @cached_property
    def _cipher(self) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._key)


class PlainSeal:
    """Stores text as it is: for `CHATKIT_ENCRYPTION=off`."""

    def close(self, text: str, about: str) -> bytes:
        """Mark a text as plain; see `Seal.close`."""
        return _PLAIN + text.encode("utf-8")

    def open(self, sealed: bytes, about: str) -> str:
        """Read a plain text; see `Seal.open`."""
        if sealed[:1] != _PLAIN:
            raise KeyUnavailable(
                f"What is stored as {about} is encrypted and its key is gone or "
                "CHATKIT_ENCRYPTION is off; switch it on with the key store of this database."
            )
        return sealed[1:].decode("utf-8")


def _unreadable(about: str) -> KeyUnavailable:
    return KeyUnavailable(
        f"What is stored as {about} cannot be read with this key; it was sealed with another one "
        "or was changed: restore the key store that belongs to this database."
    )


def new_key() -> bytes:
    """Make a key for `KeySeal`."""
    return os.urandom(KEY_BYTES)
