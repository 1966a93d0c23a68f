"""Conversations as training data: JSON lines with `messages`, as trainers read them."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from chatkit.exchange.portable import Portable, PortableNode
from chatkit.messages import Message

_CUT_SHORT = ("length", "stopped")


def write_messages_jsonl(conversations: Iterable[Portable], file: TextIO) -> tuple[str, ...]:
    """Write one line for each conversation: its path to the head, up to the last finished answer.

    A line is `{"messages": […], "conversation": id, "nodes": [id, …]}`; the nodes say where the
    messages came from, the system prompt aside. Left out are other branches, summaries, a model's
    thinking, and all from the question on whose answer was stopped, cut short, interrupted or
    failed.

    Args:
        conversations: what to write.
        file: open for text in UTF-8.

    Returns:
        The ids of the conversations without a finished answer, which have no line.
    """
    left_out: list[str] = []
    for conversation in conversations:
        nodes = _finished(conversation.path())
        if not nodes:
            left_out.append(conversation.id)
            continue
        line = {
            "messages": _messages(conversation.system, nodes),
            "conversation": conversation.id,
            "nodes": [node.id for node in nodes],
        }
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return tuple(left_out)


def _finished(path: Iterable[PortableNode]) -> list[PortableNode]:
    """Keep a path up to its last finished answer; empty when it has none."""
    kept: list[PortableNode] = []
    end = 0
    for node in path:
        if node.kind == "summary":
            continue
        if node.message.role == "assistant" and not _is_finished(node):
            break
        kept.append(node)
        end = len(kept) if node.message.role == "assistant" else end
    return kept[:end]


def _is_finished(node: PortableNode) -> bool:
    said = bool(node.message.content.strip() or node.message.tool_calls)
    done = node.facts.get("status", "done") == "done"
    return said and done and node.facts.get("finish") not in _CUT_SHORT


def _messages(system: str | None, nodes: Sequence[PortableNode]) -> list[dict[str, Any]]:
    said = [node.message for node in nodes]
    if system is not None and said[0].role == "system":
        # Chat templates take one system message, at the beginning.
        said[0] = Message("system", f"{system}\n\n{said[0].content}")
    elif system is not None:
        said.insert(0, Message("system", system))
    return [_message(message) for message in said]


def _message(message: Message) -> dict[str, Any]:
    value: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        value["name"] = message.name
    if message.tool_calls:
        value["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return value
