"""The key above all others."""

import os
from pathlib import Path

from chatkit.errors import InputError, KeyUnavailable
from chatkit.sealing import KEY_BYTES, new_key


class MasterKey:
    """The key above all others, from the environment or from a file that only its owner reads.

    Args:
        given: 64 hexadecimal digits from `CHATKIT_MASTER_KEY`, or None.
        file: where it is kept otherwise; made at the first use.

    Raises:
        InputError: what is given is no key.
        KeyUnavailable: the file is not readable or holds no key.
    """

    def __init__(self, given: str | None, file: Path) -> None:
        self.file = file
        self.from_environment = given is not None
        self.key = _parse(given) if given else _read_or_make(file)


def _parse(text: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise InputError(
            "The master key must be 64 hexadecimal digits; make one with `openssl rand -hex 32`."
        )
    return key


def _read_or_make(file: Path) -> bytes:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _make(file)
        return _parse(file.read_text("ascii"))
    except (OSError, InputError, ValueError) as error:
        raise KeyUnavailable(
            f"The master key {file} cannot be read ({error}); restore it from your safe copy."
        ) from None


def _make(file: Path) -> None:
    """Write a new key in one step; of two processes that begin together one wins."""
    if file.exists():
        return
    draft = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as output:
        output.write(new_key().hex())
        output.flush()
        os.fsync(output.fileno())
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
