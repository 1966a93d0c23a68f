"""chatkit's own file: everything, so that reading gives what was written.

{"format": "chatkit-conversations", "version": 1, "conversations": [
{"id": …, "title": …, …, "nodes": [{"id": …, "parent": …, "role": …, "content": …, …}, …]},
…
]}
"""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, TextIO, cast, get_args

from chatkit.errors import InputError
from chatkit.exchange.fields import Fields
from chatkit.exchange.place import Place
from chatkit.exchange.portable import Kind, Portable, PortableNode
from chatkit.exchange.tree import in_order
from chatkit.messages import ROLES, Message, Role, ToolCall

FORMAT = "chatkit-conversations"
VERSION = 1
# In this order, since with it the conversations can be read one at a time.
HEADER = re.compile(
    rf'\{{\s*"format"\s*:\s*"{FORMAT}"\s*,\s*"version"\s*:\s*(\d{{1,9}})\s*,'
    r'\s*"conversations"\s*:\s*\['
)
TAIL = "}"
_CONVERSATION = frozenset(
    [
        "id",
        "title",
        "created",
        "updated",
        "system",
        "settings",
        "head",
        "forked_from",
        "forked_at",
        "nodes",
    ]
)
_NODE = frozenset(
    [
        "id",
        "parent",
        "created",
        "role",
        "content",
        "name",
        "tool_calls",
        "reasoning",
        "kind",
        "pinned",
        "facts",
        "feedback",
    ]
)
_FEEDBACK = frozenset(("thumb", "tags", "comment"))


def write_json(conversations: Iterable[Portable], file: TextIO) -> None:
    """Write conversations as one JSON document, one conversation in memory at a time.

    Args:
        conversations: what to write.
        file: open for text in UTF-8.

    Raises:
        InputError: a conversation holds something that JSON has no form for, or a date without
            time zone; the file then ends in the middle.
    """
    file.write(f'{{"format": "{FORMAT}", "version": {VERSION}, "conversations": [')
    separator = "\n"
    for conversation in conversations:
        file.write(separator + _as_json(conversation))
        separator = ",\n"
    file.write("\n]}\n")


def is_own(value: Any) -> bool:
    """Tell whether this is a whole document of `write_json`, with its fields in another order."""
    return isinstance(value, dict) and value.get("format") == FORMAT


def check_version(version: int, place: Place) -> None:
    """Refuse a file of a version that this chatkit does not know.

    Raises:
        ImportRefused: it is of one.
    """
    if version != VERSION:
        raise place.refused(
            f"it is of version {version} and this chatkit reads version {VERSION}",
            "import it with a newer chatkit",
        )


def read_own(record: Fields) -> Portable:
    """Read one conversation that `write_json` wrote.

    Raises:
        ImportRefused: it was not written so.
    """
    record.only(_CONVERSATION)
    record.needs("nodes")
    nodes = [_read_node(fields) for fields in _node_fields(record)]
    ordered = in_order(nodes, [None] * len(nodes), record.place)
    head = record.optional_identifier("head")
    if head is not None and all(node.id != head for node in ordered):
        raise record.refused("its head is not one of its messages")
    return Portable(
        id=record.identifier("id"),
        title=record.text("title"),
        created=record.moment("created"),
        updated=record.moment("updated"),
        system=record.optional_text("system"),
        settings=record.data("settings"),
        head=head,
        forked_from=record.optional_identifier("forked_from"),
        nodes=tuple(ordered),
        forked_at=record.optional_identifier("forked_at"),
    )


def _node_fields(record: Fields) -> Iterator[Fields]:
    for fields in record.parts("nodes"):
        record.budget.spend("messages", 1, record.place)
        yield Fields(fields.values, record.place.at(fields.identifier("id")), record.budget)


def _read_node(fields: Fields) -> PortableNode:
    fields.only(_NODE)
    return PortableNode(
        id=fields.identifier("id"),
        parent=fields.optional_identifier("parent"),
        message=_read_message(fields),
        created=fields.moment("created"),
        kind=cast(Kind, _one_of(fields, "kind", get_args(Kind), "message")),
        pinned=fields.flag("pinned"),
        facts=fields.data("facts"),
        feedback=_read_feedback(fields),
    )


def _read_message(fields: Fields) -> Message:
    return Message(
        cast(Role, _one_of(fields, "role", ROLES, "")),
        fields.text("content"),
        fields.optional_text("name"),
        tuple(
            ToolCall(call.text("id"), call.text("name"), call.text("arguments"))
            for call in fields.parts("tool_calls")
        ),
        fields.optional_text("reasoning") or "",
    )


def _one_of(fields: Fields, name: str, allowed: tuple[str, ...], default: str) -> str:
    value = fields.optional_text(name) or default
    if value not in allowed:
        raise fields.refused(f"'{name}' is none of {', '.join(allowed)}")
    return value


def _read_feedback(fields: Fields) -> dict[str, Any]:
    feedback = fields.data("feedback")
    inside = Fields(feedback, fields.place, fields.budget)
    inside.only(_FEEDBACK)
    if feedback.get("thumb") not in ("up", "down", None):
        raise fields.refused("its 'thumb' is neither up nor down")
    if not all(isinstance(tag, str) for tag in inside.items("tags")):
        raise fields.refused("its 'tags' are not all text")
    inside.optional_text("comment")
    return feedback


def _as_json(conversation: Portable) -> str:
    value = {
        "id": conversation.id,
        "title": conversation.title,
        "created": _date(conversation.created),
        "updated": _date(conversation.updated),
        "system": conversation.system,
        "settings": dict(conversation.settings),
        "head": conversation.head,
        "forked_from": conversation.forked_from,
        "forked_at": conversation.forked_at,
        "nodes": [_node(node) for node in conversation.nodes],
    }
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Conversation {conversation.id} cannot be written as JSON ({error}); "
            "its settings, facts and feedback must be JSON values."
        ) from None


def _node(node: PortableNode) -> dict[str, Any]:
    message = node.message
    optional: dict[str, Any] = {
        "reasoning": message.reasoning,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ],
        "pinned": node.pinned,
        "facts": dict(node.facts),
        "feedback": dict(node.feedback),
    }
    return {
        "id": node.id,
        "parent": node.parent,
        "created": _date(node.created),
        "role": message.role,
        "content": message.content,
        **({} if message.name is None else {"name": message.name}),
        **({} if node.kind == "message" else {"kind": node.kind}),
        **{name: value for name, value in optional.items() if value},
    }


def _date(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise InputError(f"The date {moment} has no time zone; give it in UTC.")
    return moment.astimezone(UTC).isoformat()
