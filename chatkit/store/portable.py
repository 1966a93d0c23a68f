"""Conversations of the store in the form that travels, and back."""

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, cast, get_args

from chatkit.exchange.portable import Portable, PortableNode
from chatkit.store.new_node import NewNode
from chatkit.store.records import (
    AnswerFacts,
    ConversationRecord,
    ConversationSettings,
    Feedback,
    NodeRecord,
    Policy,
    Status,
)

# As long as their columns.
_TEXTS = {"adapter": 500, "template_identity": 64, "finish": 8}
_ERROR_KIND = 64
_NUMBERS = ("seed", "prompt_tokens", "cached_tokens", "completion_tokens")


def to_portable(
    record: ConversationRecord,
    tree: tuple[NodeRecord, ...],
    opinions: Mapping[str, Feedback],
) -> Portable:
    """Give a conversation with all its messages in the form that travels."""
    from_id, from_node = record.forked_from or (None, None)
    return Portable(
        id=record.id,
        title=record.title,
        created=_moment(record.created),
        updated=_moment(record.updated),
        system=record.settings.system,
        settings={"policy": record.settings.policy},
        head=record.head,
        forked_from=from_id,
        nodes=tuple(_portable_node(node, opinions.get(node.id)) for node in tree),
        forked_at=from_node,
    )


def settings_of(portable: Portable) -> ConversationSettings:
    """Read how an imported conversation is answered; what is not known here is left out."""
    policy = portable.settings.get("policy")
    known = policy if policy in get_args(Policy) else "sliding"
    return ConversationSettings(portable.system, cast(Policy, known))


def new_nodes(portable: Portable) -> dict[str, NewNode]:
    """Make the messages of an imported conversation, by their old names and with new ones."""
    made: dict[str, NewNode] = {}
    for node in portable.nodes:
        made[node.id] = NewNode(
            message=node.message,
            parent=made[node.parent].id if node.parent is not None else None,
            kind=node.kind,
            facts=_facts(node.facts) if node.facts else None,
            created=node.created.timestamp(),
            pinned=node.pinned,
            id=secrets.token_hex(8),
        )
    return made


def feedback_of(node: PortableNode) -> Feedback | None:
    """Read what its reader thought of an imported answer."""
    if not node.feedback:
        return None
    tags = tuple(str(tag) for tag in node.feedback.get("tags", ()))
    return Feedback(node.feedback.get("thumb"), tags, str(node.feedback.get("comment") or ""))


def _portable_node(node: NodeRecord, opinion: Feedback | None) -> PortableNode:
    return PortableNode(
        id=node.id,
        parent=node.parent,
        message=node.message,
        created=_moment(node.created),
        kind=node.kind,
        pinned=node.pinned,
        facts=_facts_to_json(node.facts) if node.facts else {},
        feedback=_feedback_to_json(opinion) if opinion else {},
    )


def _facts_to_json(facts: AnswerFacts) -> dict[str, Any]:
    value = asdict(facts) | {"error": list(facts.error) if facts.error else None}
    # How far it was stored, and which request it was, mean nothing elsewhere.
    return {
        name: part
        for name, part in value.items()
        if name not in ("flushed", "request_id") and part not in (None, {})
    }


def _feedback_to_json(opinion: Feedback) -> dict[str, Any]:
    return {"thumb": opinion.thumb, "tags": list(opinion.tags), "comment": opinion.comment}


def _facts(value: Mapping[str, Any]) -> AnswerFacts:
    """Read the facts of an imported answer; what is of another kind is left out."""
    status = value.get("status")
    # Nobody here writes what was still being written there.
    ended = status if status in get_args(Status) and status not in ("queued", "running") else None
    error = value.get("error")
    stages = value.get("stage_seconds")
    sampling = value.get("sampling")
    texts: dict[str, Any] = {
        name: _short(value[name], longest)
        for name, longest in _TEXTS.items()
        if isinstance(value.get(name), str)
    }
    numbers = {name: value[name] for name in _NUMBERS if _is_count(value.get(name))}
    return AnswerFacts(
        status=ended or ("interrupted" if status else "done"),
        model=_short(str(value.get("model") or "unknown"), 500),
        request_id="import",
        error=_error(error) if error and _is_pair(error) else None,
        stage_seconds=_seconds(stages) if isinstance(stages, Mapping) else {},
        sampling=dict(sampling) if isinstance(sampling, Mapping) else {},
        **texts,
        **numbers,
    )


def _short(text: str, longest: int) -> str:
    """Cut a text to what its column holds; PostgreSQL holds no NUL byte."""
    return text.replace("\x00", "")[:longest]


def _error(pair: list[Any]) -> tuple[str, str]:
    return _short(str(pair[0]), _ERROR_KIND), str(pair[1])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _seconds(stages: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(seconds)
        for name, seconds in stages.items()
        if isinstance(seconds, int | float) and not isinstance(seconds, bool)
    }


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
