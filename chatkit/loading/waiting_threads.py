"""On few cores, threads that wait for each other sleep instead of spinning."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from chatkit.hardware import core_count

# Turns of OpenMP's waiting loop before a thread goes to sleep: some microseconds, which is as
# long as a thread that runs makes another wait.
SPIN_COUNT = "500"


@contextmanager
def waiting_threads_sleep() -> Iterator[None]:
    """Let the threads of what is loaded within sleep soon while they wait, on one or two cores.

    Threads that wait spinning keep the core from the one that they wait for: beside any other busy
    process everything becomes many times slower when there is no core to spare. OpenMP reads the
    setting once, when it is loaded, and each library brings an OpenMP of its own; a setting of the
    user's stays.
    """
    ours = "GOMP_SPINCOUNT" not in os.environ and core_count() <= 2
    if ours:
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    try:
        yield
    finally:
        if ours:
            del os.environ["GOMP_SPINCOUNT"]
