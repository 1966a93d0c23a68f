"""One event of a running answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from chatkit.errors import StoreUnavailable

Kind = Literal[
    "accepted",
    "queued",
    "started",
    "delta",
    "snapshot",
    "done",
    "stopped",
    "interrupted",
    "failed",
]
_FINAL = frozenset({"done", "stopped", "interrupted", "failed"})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an answer.

    Args:
        seq: its place in the log, 1 for the first; the log's single writer counts.
        kind: what happened.
        text: the new text of a `delta`, the whole text so far of a `snapshot`.
        facts: what else there is to say, as values that JSON knows.
    """

    seq: int
    kind: Kind
    text: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self.kind in _FINAL


def to_text(event: Event) -> str:
    """Write an event as text, without its place, which the log knows."""
    return json.dumps([event.kind, event.text, dict(event.facts)], separators=(",", ":"))


def from_text(seq: int, text: str) -> Event:
    """Read what `to_text` wrote.

    Raises:
        StoreUnavailable: something else wrote it.
    """
    try:
        kind, said, facts = json.loads(text)
        return Event(seq, kind, said, dict(facts))
    except (ValueError, TypeError):
        raise StoreUnavailable(
            f"Event {seq} of a live log in Redis is not chatkit's; give chatkit a database of "
            "its own in CHATKIT_REDIS_URL."
        ) from None
