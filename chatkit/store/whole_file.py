"""Writes a file that is there whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from chatkit.errors import ChatkitError, DiskFull, InputError


@contextmanager
def whole_file(target: Path, *, replace: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for its owner alone; it takes its name when all of it is on disk.

    Args:
        target: its name.
        replace: whether a file of that name may go.

    Raises:
        InputError: there is a file of that name, or none can be written there.
        DiskFull: the disk has no room; what was there is untouched.
    """
    if target.exists() and not replace:
        raise _taken(target)
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not replace:
            # Unlike a renaming, a link does not take the place of what came meanwhile.
            os.link(draft, target)
        else:
            draft.replace(target)
    except OSError as error:
        raise unwritable(error, target) from error
    finally:
        draft.unlink(missing_ok=True)


def _taken(target: Path) -> InputError:
    return InputError(f"There is a file {target} already; name another one, or use --force.")


def unwritable(error: OSError, target: Path) -> ChatkitError:
    """Make the error for a file that cannot be written."""
    if isinstance(error, FileExistsError):
        return _taken(target)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"There is no room to write {target}; free some space and repeat.")
    return InputError(f"{target} cannot be written ({error.strerror}); choose another place.")
