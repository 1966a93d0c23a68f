"""A conversation for people to read: Markdown, the path to the head first, then the branches."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

from chatkit.exchange.portable import Portable, PortableNode
from chatkit.messages import Message

_SPEAKERS = {"user": "You", "assistant": "Assistant", "system": "System", "tool": "Tool"}
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def write_markdown(conversation: Portable, file: TextIO) -> None:
    """Write a conversation with all its branches.

    Args:
        conversation: what to write.
        file: open for text in UTF-8.
    """
    title = " ".join(conversation.title.split()) or "Untitled"
    file.write(f"# {title}\n\n{_date(conversation.created)}\n")
    if conversation.system is not None:
        file.write(f"\n## System prompt\n\n{_quoted(conversation.system)}\n")
    numbers: dict[str | None, int] = {}
    for branch in _branches(conversation):
        after = numbers.get(branch[0].parent)
        if numbers:
            place = f"after message {after}" if after else "from the beginning"
            file.write(f"\n## Another branch, {place}\n")
        for node in branch:
            numbers[node.id] = len(numbers) + 1
            file.write(f"\n### {numbers[node.id]}. {_heading(node)}\n\n{_body(node)}\n")


def _branches(conversation: Portable) -> Iterator[list[PortableNode]]:
    """Give the path to the head, then what is not on it, in runs that belong together."""
    path = list(conversation.path())
    if path:
        yield path
    on_path = {node.id for node in path}
    runs: list[list[PortableNode]] = []
    ending: dict[str, list[PortableNode]] = {}
    for node in conversation.nodes:
        if node.id in on_path:
            continue
        run = ending.pop(node.parent, None) if node.parent is not None else None
        if run is None:
            run = []
            runs.append(run)
        run.append(node)
        ending[node.id] = run
    yield from runs


def _heading(node: PortableNode) -> str:
    facts = (node.facts.get("model"), node.facts.get("status"))
    notes = [str(fact) for fact in facts if fact not in (None, "done")]
    speaker = "Summary" if node.kind == "summary" else _SPEAKERS[node.message.role]
    notes = [*filter(None, [node.message.name]), *notes, *(["pinned"] if node.pinned else [])]
    inside = f" ({', '.join(notes)})" if notes else ""
    return " ".join(f"{speaker}{inside} · {_date(node.created)}".split())


def _body(node: PortableNode) -> str:
    message = node.message
    parts = [_quoted(message.reasoning), _closed(message.content), _calls(message), _opinion(node)]
    return "\n\n".join(part for part in parts if part)


def _calls(message: Message) -> str:
    return "\n\n".join(
        f"Calls {call.name}:\n\n{_indented(call.arguments)}" for call in message.tool_calls
    )


def _opinion(node: PortableNode) -> str:
    tags = [str(tag) for tag in node.feedback.get("tags") or ()]
    thumb, comment = node.feedback.get("thumb"), node.feedback.get("comment")
    said = [*([f"thumb {thumb}"] if thumb else []), *tags, *([comment] if comment else [])]
    return _quoted(f"Feedback: {', '.join(said)}") if said else ""


def _closed(text: str) -> str:
    """End a block of code that an answer left open, so that it does not swallow what follows."""
    fence = ""
    for line in text.splitlines():
        match = _FENCE.match(line)
        if match and not fence:
            fence = match[1]
        elif match and match[1].startswith(fence) and not match[2].strip():
            fence = ""
    return f"{text}\n{fence}" if fence else text


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in _closed(text).splitlines())


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _date(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
