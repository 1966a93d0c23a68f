"""Memory that loading a model freed goes back to the system."""

import ctypes
import platform

import psutil
import pytest

from chatkit.engines.freed_memory import return_freed_memory

PIECES, PIECE_BYTES = 2000, 64 * 1024


@pytest.mark.lengthy
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")
def test_what_the_heap_keeps_is_returned() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    pieces = [library.malloc(ctypes.c_size_t(PIECE_BYTES)) for _ in range(PIECES)]
    for piece in pieces:
        ctypes.memset(piece, 1, PIECE_BYTES)
    *freed, last = pieces
    for piece in freed:
        library.free(ctypes.c_void_p(piece))
    kept = psutil.Process().memory_info().rss
    return_freed_memory()
    assert kept - psutil.Process().memory_info().rss > PIECES * PIECE_BYTES * 3 // 4
    library.free(ctypes.c_void_p(last))
