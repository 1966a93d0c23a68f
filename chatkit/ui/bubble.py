"""What the page shows of one message."""

import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

from chatkit.engine import Delta


@dataclass(slots=True)
class Bubble:
    """One message on the page.

    Args:
        role: who speaks.
        text: what was said, as it was said.
        id: its name on the page.
        blocks: an answer's ended blocks as safe HTML.
        tail: the safe HTML of the block that is still open.
        note: small print under it.
        error: what went wrong, in one sentence.
        pending: whether more is to come.
    """

    role: Literal["user", "assistant"]
    text: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    blocks: list[str] = field(default_factory=list)
    tail: str = ""
    note: str = ""
    error: str = ""
    pending: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give what the browser needs; of an answer that is never the raw text."""
        return {
            "id": self.id,
            "role": self.role,
            "text": self.text if self.role == "user" else "",
            "html": "".join(self.blocks),
            "tail": self.tail,
            "note": self.note,
            "error": self.error,
            "pending": self.pending,
        }


def small_print(model: str, last: Delta) -> str:
    """Say what an answer took, from its last delta."""
    parts = [model]
    if usage := last.usage:
        parts.append(f"{usage.prompt_tokens:,} tokens read, {usage.completion_tokens:,} written")
        if usage.tokens_per_second:
            parts.append(f"{usage.tokens_per_second:,.0f} tokens/s")
    if last.finish == "length":
        parts.append("ended by the longest length")
    return " · ".join(parts)
