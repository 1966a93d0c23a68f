"""A conversation: a tree of messages, of which a reader sees one path."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

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

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> "Conversation":
        """Make a tree of messages that are there already, parents before children.

        Raises:
            InputError: a parent is missing.
        """
        conversation = cls()
        for node in nodes:
            if node.parent is not None:
                conversation._existing(node.parent)
            conversation.nodes[node.id] = node
        return conversation

    def _existing(self, id: str) -> Node:
        if id not in self.nodes:
            raise InputError(f"There is no message {id!r} in this conversation; see its path.")
        return self.nodes[id]
