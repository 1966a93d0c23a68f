"""ShareGPT: a list of turns, each with who said it and what.

The form grew by use and has no specification; read here are the names that tools for fine-tuning
write, `messages` with `role` and `content` among them.
"""

import json
from typing import Any

from chatkit.exchange.fields import Fields
from chatkit.exchange.place import shown
from chatkit.exchange.portable import Portable, PortableNode
from chatkit.exchange.titles import title_from
from chatkit.messages import Message, Role, ToolCall

_LISTS = ("conversations", "messages")
_SPEAKERS = ("from", "role")
_TEXTS = ("value", "content", "text")
_CALLS = ("function_call", "tool_call")
ROLE_OF_SPEAKER: dict[str, Role] = {
    "system": "system",
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "bot", "chatbot", "model"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
    **dict.fromkeys(("tool_response", "function_response"), "tool"),
    **dict.fromkeys(_CALLS, "assistant"),
}


def is_sharegpt(record: Any) -> bool:
    """Tell whether this looks like a conversation of ShareGPT."""
    return isinstance(record, dict) and _key(record, _LISTS) is not None


def read_sharegpt(record: Fields) -> Portable:
    """Read one conversation of ShareGPT, a tree without branches.

    Raises:
        ImportRefused: a turn has no known speaker, or no text.
    """
    turns = list(record.parts(_key(record.values, _LISTS) or ""))
    record.budget.spend("messages", len(turns), record.place)
    messages = [_read_turn(turn, number) for number, turn in enumerate(turns, 1)]
    system = record.optional_text("system")
    if system is None and messages and messages[0].role == "system":
        system = messages.pop(0).content
    model = record.optional_text("model")
    nodes = _chain(messages, {"status": "done", "model": model} if model else {}, record)
    return Portable(
        id=_id(record),
        title=record.optional_text("title") or title_from(messages),
        created=record.budget.moment,
        updated=record.budget.moment,
        system=system,
        settings={},
        head=nodes[-1].id if nodes else None,
        forked_from=None,
        nodes=nodes,
    )


def _chain(
    messages: list[Message], facts: dict[str, Any], record: Fields
) -> tuple[PortableNode, ...]:
    return tuple(
        PortableNode(
            id=str(number),
            parent=str(number - 1) if number > 1 else None,
            message=message,
            created=record.budget.moment,
            facts=facts if message.role == "assistant" else {},
        )
        for number, message in enumerate(messages, 1)
    )


def _read_turn(turn: Fields, number: int) -> Message:
    turn = Fields(turn.values, turn.place.at(str(number)), turn.budget)
    speaker, text = _key(turn.values, _SPEAKERS), _key(turn.values, _TEXTS)
    if speaker is None or text is None:
        raise turn.refused("it needs who speaks ('from') and what was said ('value')")
    name = turn.text(speaker).strip().lower()
    if name not in ROLE_OF_SPEAKER:
        raise turn.refused(
            f"the speaker '{shown(name)}' is unknown", f"use one of {', '.join(ROLE_OF_SPEAKER)}"
        )
    content = turn.text(text)
    call = _call(content, number, turn) if name in _CALLS else None
    return Message(
        ROLE_OF_SPEAKER[name], "" if call else content, tool_calls=(call,) if call else ()
    )


def _call(content: str, number: int, turn: Fields) -> ToolCall | None:
    """Read a call written as JSON; None where it is written otherwise."""
    try:
        value = json.loads(content)
        arguments = json.dumps(value["arguments"], ensure_ascii=False, allow_nan=False)
        name = value["name"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if not isinstance(name, str):
        return None
    if isinstance(value["arguments"], str):
        arguments = value["arguments"]
    return ToolCall(
        f"call-{number}", turn.checked(name, "name"), turn.checked(arguments, "arguments")
    )


def _id(record: Fields) -> str:
    value = record.values.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return record.checked_identifier(str(value), "id")
    return record.optional_identifier("id") or record.place.label


def _key(values: Any, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in values), None)
