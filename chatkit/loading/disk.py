"""Writing model files: typed errors, room checked beforehand, whole files or none."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatkit.errors import ChatkitError, DiskFull, ModelUnavailable
from chatkit.loading.progress import size_text

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the disk's refusals inside the block into errors for a person.

    Args:
        path: what is being written, named in the message.

    Raises:
        DiskFull: the disk or the quota has no room left.
        ModelUnavailable: the place cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        raise _typed(error, path) from error


def ensure_room(folder: Path, needed: int) -> None:
    """Refuse before the work begins when it would not fit.

    Args:
        folder: an existing folder on the disk in question.
        needed: bytes that are going to be written.

    Raises:
        DiskFull: fewer bytes are free.
    """
    with writing(folder):
        free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"{size_text(needed)} are needed in {folder} and {size_text(free)} are free; "
            "free some room or set CHATKIT_HOME to another disk, then pull again."
        )


def move_into_place(source: Path, target: Path) -> None:
    """Give a finished file its name, so that the name never stands for half a file.

    Raises:
        DiskFull, ModelUnavailable: see `writing`.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb+") as file:
            # Without it a power cut can leave the new name over blocks never written.
            os.fsync(file.fileno())
        os.replace(source, target)


def size_of(path: Path) -> int:
    """Give a file's size in bytes, 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _typed(error: OSError, path: Path) -> ChatkitError:
    reason = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return DiskFull(
            f"The disk has no room for {path} ({reason}); free some or set CHATKIT_HOME to "
            "another disk, then pull again."
        )
    return ModelUnavailable(
        f"{path} cannot be written ({reason}); make it writable or set CHATKIT_HOME to a folder "
        "that is."
    )
