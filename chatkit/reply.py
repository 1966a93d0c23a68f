"""What `Chat.send` gives back: the answer with what it took."""

from dataclasses import dataclass
from typing import Literal

from chatkit.engine import Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer, already shown where there was something to show it on.

    Args:
        text: the answer.
        finish: why it ended; `stopped` means by the person.
        usage: counts and times, None when it was stopped.
        node: its id in the conversation.
    """

    text: str
    finish: Literal["stop", "length", "stopped"]
    usage: Usage | None
    node: str

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        if self.usage is None:
            return f"<Reply {self.finish}>"
        speed = self.usage.tokens_per_second
        return f"<Reply {self.finish}, {self.usage.completion_tokens} tokens, {speed:.0f} tokens/s>"
