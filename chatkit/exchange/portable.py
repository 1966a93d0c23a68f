"""One conversation in a form that travels: whole, and bound to no database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from chatkit.messages import Message

Kind = Literal["message", "summary"]


@dataclass(frozen=True, slots=True)
class PortableNode:
    """One message of the tree, with all that is known of it.

    Args:
        id: its name, which no other message of the conversation has.
        parent: the id of the message before it, None at the beginning.
        message: what was said.
        created: when; it knows its time zone.
        kind: a message, or the summary of what stands before it.
        pinned: whether it stays in the model's window.
        facts: how an answer came about, as JSON values; empty for everything else.
        feedback: `thumb`, `tags` and `comment`; empty when nobody gave any.
    """

    id: str
    parent: str | None
    message: Message
    created: datetime
    kind: Kind = "message"
    pinned: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    feedback: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Portable:
    """One conversation with its whole tree.

    Args:
        id: its name where it came from.
        title: what lists show; empty when it has none yet.
        created: when it began; it knows its time zone.
        updated: when something was last said; it knows its time zone.
        system: the system prompt, None without one.
        settings: how it is answered, as JSON values.
        head: the message at which its reader stands, None before the first one.
        forked_from: the conversation that it was copied from.
        nodes: the messages, parents before children, siblings oldest first.
        forked_at: the message of that conversation at which it was copied.
    """

    id: str
    title: str
    created: datetime
    updated: datetime
    system: str | None
    settings: Mapping[str, Any]
    head: str | None
    forked_from: str | None
    nodes: tuple[PortableNode, ...]
    forked_at: str | None = None

    def path(self) -> tuple[PortableNode, ...]:
        """Give the messages from the beginning to the head."""
        named = {node.id: node for node in self.nodes}
        found: list[PortableNode] = []
        id = self.head
        while id is not None:
            found.append(named[id])
            id = named[id].parent
        return tuple(reversed(found))
