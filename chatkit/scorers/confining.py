"""Takes from a process, before it begins, what it does not need: time, memory, network, files.

Sources: landlock(7), capabilities(7), unshare(2), prctl(2).
"""

import ctypes
import os
import resource
import sys
from pathlib import Path

_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
_CREATE_RULES, _ADD_RULE, _RESTRICT = 444, 445, 446
# Write, remove, make, move and truncate, of which the last two came with versions 2 and 3.
_WRITING, _MOVE, _TRUNCATE = 0x1FF2, 1 << 13, 1 << 14
_NO_NEW_PRIVILEGES, _KEEP_CAPABILITIES, _AMBIENT, _RAISE = 38, 8, 47, 2
_READ_ANY_FILE, _VERSION_3 = 2, 0x20080522


class _Rules(ctypes.Structure):
    _fields_ = [("handled", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def confine(folder: Path, user: int | None, seconds: float, megabytes: int) -> None:
    """Confine this process and all that it starts; what the kernel cannot do is left out.

    Args:
        folder: the only one that it may write into.
        user: whom it becomes, where we are root; else None.
        seconds: of computing time.
        megabytes: of memory.
    """
    if sys.platform == "linux":
        system = ctypes.CDLL(None)
        system.unshare(_NEW_NETWORK if user is not None else _NEW_NETWORK | _NEW_USER)
        system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        _write_only_into(system, folder)
        if user is not None:
            _become(system, user)
    limits = {
        resource.RLIMIT_CPU: max(1, round(seconds)),
        resource.RLIMIT_FSIZE: 1 << 20,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        # macOS knows the limit, and refuses to set it.
        limits[resource.RLIMIT_AS] = megabytes << 20
    if user is not None:
        # For our own user it would count our own programs too.
        limits[resource.RLIMIT_NPROC] = 16
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


def _write_only_into(system: ctypes.CDLL, folder: Path) -> None:
    version = system.syscall(_CREATE_RULES, None, 0, 1)
    if version < 1:
        return
    writing = _WRITING | (_MOVE if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    rules = _Rules(writing)
    made = system.syscall(_CREATE_RULES, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    place = os.open(folder, os.O_PATH)
    beneath = _Beneath(writing, place)
    system.syscall(_ADD_RULE, made, 1, ctypes.byref(beneath), 0)
    system.syscall(_RESTRICT, made, 0)
    os.close(place)
    os.close(made)


def _become(system: ctypes.CDLL, user: int) -> None:
    """Change the user; files of a Python that lies in root's own folders can still be read."""
    system.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    bit = 1 << _READ_ANY_FILE
    # Effective, permitted and inheritable, each in two halves.
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    system.capset(header, sets)
    system.prctl(_AMBIENT, _RAISE, _READ_ANY_FILE, 0, 0)
