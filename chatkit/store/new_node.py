"""A message that is to be stored."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from chatkit.messages import Message
from chatkit.sealing import Seal
from chatkit.store.records import AnswerFacts, Kind, message_to_text


@dataclass(frozen=True, slots=True)
class NewNode:
    """A message to add.

    Args:
        message: what was said.
        parent: the message before it, None at the beginning.
        client_id: the sender's own name for it; the same name twice is the same message.
        kind: a message, or the summary of what stands before it.
        facts: of an answer that is to come, or that came from elsewhere.
        worker: which process writes the answer.
        created: when, in seconds since 1970; now when None.
        pinned: whether it stays in the model's window.
        id: its name.
    """

    message: Message
    parent: str | None
    client_id: str | None = None
    kind: Kind = "message"
    facts: AnswerFacts | None = None
    worker: str | None = None
    created: float | None = None
    pinned: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(8))


def new_row(conversation: str, seal: Seal, node: NewNode) -> dict[str, Any]:
    """Make the row of a new message, its text sealed."""
    return {
        "id": node.id,
        "conversation_id": conversation,
        "parent": node.parent,
        "kind": node.kind,
        "role": node.message.role,
        "sealed": seal.close(message_to_text(node.message), f"node:{node.id}"),
        "created": node.created if node.created is not None else time.time(),
        "pinned": node.pinned,
        "client_id": node.client_id,
    }
