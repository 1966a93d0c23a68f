"""Keeps other libraries' bars and notices off the screen, which belongs to whoever called us."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide what transformers draws while it reads and writes weights.

    What torchao and bitsandbytes say when they are first imported, about kernels for other
    machines, stays hidden afterwards too.
    """
    for name in ("torchao", "torch.utils._pytree", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
