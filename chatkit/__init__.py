"""chatkit: choose, compare, tune, prove and serve open chat models.

import chatkit
chat = chatkit.load("smollm2-135m").chat()
chat.send("What is a tide?")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatkit.comparison.result import Comparison
    from chatkit.comparison.running import compare
    from chatkit.errors import ChatkitError
    from chatkit.messages import Message, assistant, system, user
    from chatkit.sampling import Sampling
    from chatkit.session import Chat, Model, load

__version__ = "0.1.0"

__all__ = [
    "Chat",
    "ChatkitError",
    "Comparison",
    "Message",
    "Model",
    "Sampling",
    "assistant",
    "compare",
    "load",
    "system",
    "user",
]

# Each public name is imported when it is first used, so that `import chatkit` stays fast.
_HOMES = {
    "ChatkitError": "chatkit.errors",
    "Message": "chatkit.messages",
    "assistant": "chatkit.messages",
    "system": "chatkit.messages",
    "user": "chatkit.messages",
    "Sampling": "chatkit.sampling",
    "Chat": "chatkit.session",
    "Comparison": "chatkit.comparison.result",
    "compare": "chatkit.comparison.running",
    "Model": "chatkit.session",
    "load": "chatkit.session",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'chatkit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
