"""Keeps a model's weights in large pages of memory, which one core reads a quarter faster."""

import ctypes
import mmap
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

PAGE_BYTES = 2 << 20
# Weights and the window are larger; the stacks of threads, which stay small, are not.
LEAST_BYTES = 32 << 20
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# A program that asks one question and ends gets its answer first.
DELAY_SECONDS = 2
_MADV_COLLAPSE = 25
_PRIVATE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *$")

Region = tuple[int, int]
"""The first address of a piece of memory, and the one after its last."""


def huge_pages_available() -> bool:
    """Say whether this system gives large pages to who asks for them (Linux does, mostly)."""
    if sys.platform != "linux" or not SETTING.exists():
        return False
    return "[never]" not in SETTING.read_text()


@contextmanager
def gathered_into_huge_pages() -> Iterator[None]:
    """Gather what is allocated inside into large pages, soon after and beside other work.

    It is a wish: a kernel before 6.1, or one short of whole pages, leaves memory as it was, which
    changes the speed and nothing else. See madvise(2), MADV_COLLAPSE.
    """
    before = set(private_regions())
    yield
    grown = [region for region in private_regions() if region not in before]
    timer = Timer(DELAY_SECONDS, gather, (grown,))
    timer.daemon = True
    timer.start()


def private_regions() -> list[Region]:
    """List the large pieces of memory of this process that belong to no file."""
    found = (_PRIVATE.match(line) for line in Path("/proc/self/maps").read_text().splitlines())
    regions = [(int(match[1], 16), int(match[2], 16)) for match in found if match]
    return [(start, end) for start, end in regions if end - start >= LEAST_BYTES]


def gather(regions: list[Region]) -> int:
    """Gather the parts of pieces of memory that are full into large pages; the rest stays small.

    Args:
        regions: the pieces.

    Returns:
        How many bytes lie in large pages now.
    """
    system = ctypes.CDLL(None)
    gathered = 0
    for start, end in regions:
        for page in range(-(-start // PAGE_BYTES) * PAGE_BYTES, end - PAGE_BYTES + 1, PAGE_BYTES):
            # What was never written takes no memory, and would in a large page.
            gathered += PAGE_BYTES * (_is_full(system, page) and _collapse(system, page))
    return gathered


def _is_full(system: ctypes.CDLL, page: int) -> bool:
    there = (ctypes.c_ubyte * (PAGE_BYTES // mmap.PAGESIZE))()
    failed = system.mincore(ctypes.c_void_p(page), ctypes.c_size_t(PAGE_BYTES), there)
    return not failed and all(each & 1 for each in there)


def _collapse(system: ctypes.CDLL, page: int) -> bool:
    address, size = ctypes.c_void_p(page), ctypes.c_size_t(PAGE_BYTES)
    return bool(system.madvise(address, size, _MADV_COLLAPSE) == 0)
