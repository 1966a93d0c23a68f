"""The key above all others."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chatkit.errors import InputError, KeyUnavailable
from chatkit.sealing import KEY_BYTES, new_key


class MasterKey:
    """The key above all others, from the environment or from a file that only its owner reads.

    A rotation puts the new key beside the old one, gives the key store to it, and then lets its
    file take the other's name: whenever that is cut short, one of both files opens the key store.

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
        self.key = parse_key(given) if given else _read_or_make(file)
        self._alone = False

    @property
    def place(self) -> str:
        """Where it comes from, as a person names it."""
        return "CHATKIT_MASTER_KEY" if self.from_environment else str(self.file)

    def candidates(self) -> tuple[bytes, ...]:
        """Give what may be the right key: the known one, and those that a rotation left."""
        files = () if self.from_environment else (self.file, self._next)
        found = [self.key, *(key for file in files if (key := _read(file)) is not None)]
        return tuple(dict.fromkeys(found))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process of this machine from changing the file while inside.

        Raises:
            KeyUnavailable: another process is changing it.
        """
        if self._alone or self.from_environment:
            yield
            return
        with _locked(self.file.with_name(f"{self.file.name}.lock")):
            self._alone = True
            try:
                yield
            finally:
                self._alone = False

    def propose(self, key: bytes) -> None:
        """Write a new key beside the old one; call it while `alone`."""
        if not self.from_environment:
            _draft(self._next, key).replace(self._next)
            _flush_folder(self.file.parent)

    def settle(self, key: bytes) -> None:
        """Take the key that opens the key store, and end a rotation that was cut short."""
        self.key = key
        # Whoever is rotating in this moment puts the file in its place.
        with suppress(KeyUnavailable):
            if not self.from_environment and _read(self._next) == key:
                with self.alone():
                    self._take_place(key)

    def _take_place(self, key: bytes) -> None:
        if _read(self._next) == key:
            self._next.replace(self.file)
            _flush_folder(self.file.parent)

    @property
    def _next(self) -> Path:
        return self.file.with_name(f"{self.file.name}.next")


def parse_key(text: str) -> bytes:
    """Read a key from 64 hexadecimal digits.

    Raises:
        InputError: it is no key.
    """
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
        return parse_key(file.read_text("ascii"))
    except (OSError, InputError, ValueError) as error:
        raise KeyUnavailable(
            f"The master key {file} cannot be read ({error}); restore it from your safe copy."
        ) from None


def _read(file: Path) -> bytes | None:
    try:
        return parse_key(file.read_text("ascii"))
    except (OSError, InputError, ValueError):
        return None


def _make(file: Path) -> None:
    """Write a new key in one step; of two processes that begin together one wins."""
    if file.exists():
        return
    draft = _draft(file, new_key())
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    _flush_folder(file.parent)


def _draft(file: Path, key: bytes) -> Path:
    """Write a key to the disk under a name that nobody reads."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as output:
        output.write(key.hex())
        output.flush()
        os.fsync(output.fileno())
    return draft


def _flush_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise KeyUnavailable(
            "Another process is rotating the keys; wait for it, and try again."
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
