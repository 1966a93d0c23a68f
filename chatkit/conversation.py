"""A conversation: a tree of messages, of which a reader sees one path."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chatkit.errors import InputError
from chatkit.messages import Message


@dataclass(frozen=True, slots=True)
class Node:
    """One message in the tree; it knows only what it answers.

    Args:
        id: its name in the tree.
        parent: the id of the message before it, None at the root.
        message: what was said.
        created: when, in UTC.
    """

    id: str
    parent: str | None
    message: Message
    created: datetime


@dataclass(slots=True)
class Conversation:
    """A tree of messages; asking again or editing adds a sibling and loses nothing."""

    nodes: dict[str, Node] = field(default_factory=dict)

    def add(self, message: Message, parent: str | None = None) -> Node:
        """Add a message after `parent`, or at the root.

        Raises:
            InputError: there is no such parent.
        """
        if parent is not None:
            self._existing(parent)
        node = Node(secrets.token_hex(8), parent, message, datetime.now(UTC))
        self.nodes[node.id] = node
        return node

    def path(self, head: str | None) -> tuple[Node, ...]:
        """Give the messages from the root to `head`: what the model sees.

        Raises:
            InputError: there is no such node.
        """
        found: list[Node] = []
        while head is not None:
            node = self._existing(head)
            found.append(node)
            head = node.parent
        return tuple(reversed(found))

    def siblings(self, node: str) -> tuple[Node, ...]:
        """Give the messages that share this one's parent, itself included, oldest first.

        Raises:
            InputError: there is no such node.
        """
        parent = self._existing(node).parent
        return tuple(other for other in self.nodes.values() if other.parent == parent)

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return {"version": 1, "nodes": [_node_to_json(node) for node in self.nodes.values()]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Conversation":
        """Rebuild a conversation that `to_json` wrote.

        Raises:
            InputError: the value is of another form, or a parent comes after its child.
        """
        conversation = cls()
        try:
            for node in _nodes_from_json(value):
                if node.parent is not None:
                    conversation._existing(node.parent)
                conversation.nodes[node.id] = node
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"This is not a saved conversation ({error}); choose a file that chatkit saved."
            ) from None
        return conversation

    def _existing(self, id: str) -> Node:
        if id not in self.nodes:
            raise InputError(f"There is no message {id!r} in this conversation; see its path.")
        return self.nodes[id]


def _node_to_json(node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "parent": node.parent,
        "role": node.message.role,
        "content": node.message.content,
        "created": node.created.isoformat(),
    }


def _nodes_from_json(value: Mapping[str, Any]) -> Iterator[Node]:
    for row in value["nodes"]:
        message = Message(row["role"], row["content"])
        yield Node(row["id"], row["parent"], message, datetime.fromisoformat(row["created"]))
