"""ChatGPT's export: each conversation is a tree of nodes, some of which say nothing.

Nodes without a message, hidden ones and empty ones are taken out, and what came after them follows
what came before. A model's thinking goes with the answer that it led to.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chatkit.exchange.chatgpt_content import UNSAID, instructions_of, text_of, thoughts_of
from chatkit.exchange.fields import Fields
from chatkit.exchange.place import shown
from chatkit.exchange.portable import Portable, PortableNode
from chatkit.exchange.titles import title_from
from chatkit.exchange.tree import in_order
from chatkit.messages import Message, Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_STATUSES = {
    "finished_successfully": "done",
    "finished_partial_completion": "stopped",
    "cancelled": "stopped",
    "in_progress": "interrupted",
    "error": "failed",
}
_FINISHES = {"stop": "stop", "max_tokens": "length", "interrupted": "stopped"}


@dataclass(frozen=True, slots=True)
class _Raw:
    """A node as it stands in the file."""

    id: str
    parent: str | None
    created: datetime | None
    message: Fields


def is_chatgpt(record: Any) -> bool:
    """Tell whether this looks like a conversation of ChatGPT's export."""
    return isinstance(record, dict) and "mapping" in record


def read_chatgpt(record: Fields) -> Portable:
    """Read one conversation of ChatGPT's export, with all its branches.

    Raises:
        ImportRefused: it is broken, or its tree is none.
    """
    raw = _raw_nodes(record)
    times = [node.created.timestamp() if node.created else None for node in raw]
    began = record.seconds("create_time") or _first(raw) or record.budget.moment
    tree = _Tree(began)
    for node in in_order(raw, times, record.place):
        tree.add(node)
    nodes = tuple(tree.nodes)
    return Portable(
        id=_id(record),
        title=record.optional_text("title") or title_from(node.message for node in nodes),
        created=began,
        updated=record.seconds("update_time") or max((n.created for n in nodes), default=began),
        system=tree.system,
        settings={},
        head=_head(record, tree),
        forked_from=None,
        nodes=nodes,
    )


class _Tree:
    """Grows by one node after another, parents first."""

    def __init__(self, began: datetime) -> None:
        self.nodes: list[PortableNode] = []
        self.system: str | None = None
        # For each node of the file: the kept one at or before it, when, and thoughts since then.
        self.kept: dict[str, str | None] = {}
        self._times: dict[str | None, datetime] = {None: began}
        self._thoughts: dict[str | None, str] = {}

    def add(self, raw: _Raw) -> None:
        """Keep a node, or let what comes after it follow what came before."""
        parent = None if raw.parent is None else self.kept[raw.parent]
        thoughts = self._thoughts.get(raw.parent, "")
        created = self._times[raw.id] = raw.created or self._times[raw.parent]
        message = self._message(raw, parent, thoughts)
        if message is None:
            self.kept[raw.id] = parent
            self._thoughts[raw.id] = thoughts = _joined(thoughts, _thoughts(raw.message))
            # A long chain of thoughts is copied at each step, which a hostile file could use.
            raw.message.budget.spend("bytes", len(thoughts), raw.message.place)
        else:
            self.kept[raw.id] = raw.id
            facts = _facts(raw.message) if message.role == "assistant" else {}
            self.nodes.append(PortableNode(raw.id, parent, message, created, facts=facts))

    def _message(self, raw: _Raw, parent: str | None, thoughts: str) -> Message | None:
        fields = raw.message
        if not fields.values:
            return None
        if (instructions := instructions_of(fields)) is not None:
            self.system = self.system or instructions or None
            return None
        role = _role(fields)
        text = "" if _is_unsaid(fields) else text_of(fields)
        if not text:
            return None
        if role == "system" and parent is None and self.system is None:
            self.system = text
            return None
        return Message(
            role,
            text,
            name=fields.part("author").optional_text("name") if role == "tool" else None,
            reasoning=fields.checked(thoughts, "thoughts") if role == "assistant" else "",
        )


def _raw_nodes(record: Fields) -> list[_Raw]:
    mapping = record.part("mapping")
    record.budget.spend("messages", len(mapping.values), record.place)
    return [_raw_node(id, mapping) for id in mapping.values]


def _raw_node(id: str, mapping: Fields) -> _Raw:
    mapping.checked_identifier(id, "mapping")
    here = Fields(mapping.values, mapping.place.at(id), mapping.budget)
    node = here.part(id)
    if node.values.get("id", id) != id:
        raise node.refused("it stands under another id")
    message = node.part("message")
    return _Raw(id, node.optional_identifier("parent"), message.seconds("create_time"), message)


def _role(message: Fields) -> Role:
    name = message.part("author").text("role")
    if name not in _ROLES:
        raise message.refused(f"the role '{shown(name)}' is unknown")
    return _ROLES[name]


def _is_unsaid(message: Fields) -> bool:
    hidden = message.part("metadata").values.get("is_visually_hidden_from_conversation")
    kind = message.part("content").values.get("content_type")
    return hidden is True or kind == "thoughts" or kind in UNSAID


def _thoughts(message: Fields) -> str:
    content = message.part("content")
    return thoughts_of(content) if content.values.get("content_type") == "thoughts" else ""


def _facts(message: Fields) -> dict[str, Any]:
    metadata = message.part("metadata")
    status = message.optional_text("status") or "finished_successfully"
    finish = metadata.part("finish_details").optional_text("type") or ""
    facts = {
        "status": _STATUSES.get(status, "interrupted"),
        "model": metadata.optional_text("model_slug"),
        "finish": _FINISHES.get(finish),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _first(raw: list[_Raw]) -> datetime | None:
    return min((node.created for node in raw if node.created), default=None)


def _head(record: Fields, tree: _Tree) -> str | None:
    current = record.optional_identifier("current_node")
    if current is None:
        return tree.nodes[-1].id if tree.nodes else None
    if current not in tree.kept:
        raise record.refused("its current_node is not one of its nodes")
    return tree.kept[current]


def _id(record: Fields) -> str:
    given = record.optional_identifier("conversation_id") or record.optional_identifier("id")
    return given or record.place.label


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)
