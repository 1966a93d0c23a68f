"""Keeps what libraries say to their own developers off the screen."""

import logging
import warnings

_NAMES = ("transformers", "trl", "peft", "accelerate", "torchao", "torch.utils._pytree")


def quiet() -> None:
    """Show errors only, for the rest of this process."""
    warnings.simplefilter("ignore")
    for name in (*_NAMES, "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
