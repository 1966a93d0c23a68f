"""The forms in which training data is written, found by their keys, each made into rows."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from chatkit.errors import InputError
from chatkit.exchange.sharegpt import ROLE_OF_SPEAKER
from chatkit.finetuning.rows import Example, Origin, Pair, Question, Row, Thumb
from chatkit.messages import Message, Tool, ToolCall, assistant, system, user

Record = Mapping[str, Any]


class Format(NamedTuple):
    """A form of training data.

    Args:
        name: what it is called.
        keys: the keys that tell it.
        read: makes rows of a record.
    """

    name: str
    keys: frozenset[str]
    read: Callable[[Record, Origin], list[Row]]


def find_format(record: Record) -> Format:
    """Find the form of a record by its keys.

    Raises:
        InputError: no form has these keys.
    """
    for form in FORMATS:
        if form.keys <= set(record):
            return form
    known = "; ".join(f"{form.name}: {', '.join(sorted(form.keys))}" for form in FORMATS)
    keys = ", ".join(sorted(map(str, record))) or "none"
    raise InputError(f"its columns ({keys}) are those of no known form ({known})")


def rows_of(record: Record, form: Format, origin: Origin) -> list[Row]:
    """Make rows of a record, with the tools that it defines.

    Raises:
        InputError: it cannot be a row of this form.
    """
    rows, tools = form.read(record, origin), _tools(record)
    return [replace(row, tools=tools) for row in rows] if tools else rows


def _tools(record: Record) -> tuple[Tool, ...]:
    """Read definitions of functions; some publishers write the list as JSON text."""
    said = record.get("tools") or ()
    if isinstance(said, str):
        try:
            said = json.loads(said)
        except (ValueError, RecursionError):
            raise InputError("its tools are text that is no JSON") from None
    if not isinstance(said, list | tuple) or not all(isinstance(one, Mapping) for one in said):
        raise InputError("its tools are no list of objects")
    return tuple(said)


def _example(messages: Sequence[Message], origin: Origin) -> list[Row]:
    if not any(message.role == "assistant" for message in messages):
        raise InputError("it has no assistant's turn, so nothing would be trained")
    return [Example(in_order(messages), origin)]


def _read_messages(record: Record, origin: Origin) -> list[Row]:
    messages = messages_of(record["messages"], "messages")
    return _example(_with_system(record, messages), origin)


def _read_sharegpt(record: Record, origin: Origin) -> list[Row]:
    messages = messages_of(record["conversations"], "conversations")
    return _example(_with_system(record, messages), origin)


def _read_alpaca(record: Record, origin: Origin) -> list[Row]:
    asked = _joined(_text(record, "instruction"), record.get("input"))
    said = [user(asked), assistant(_text(record, "output"))]
    return _example(_with_system(record, said), origin)


def _read_self_instruct(record: Record, origin: Origin) -> list[Row]:
    rows: list[Row] = []
    for instance in _list(record, "instances"):
        asked = _joined(_text(record, "instruction"), instance.get("input"))
        rows += _example([user(asked), assistant(_text(instance, "output"))], origin)
    return rows


def _read_prompt_completion(record: Record, origin: Origin) -> list[Row]:
    asked, answer = _asked(record), _answer(record, "completion")
    return _example([*asked, answer], origin)


def _read_thumb(record: Record, origin: Origin) -> list[Row]:
    liked = record["label"]
    if liked not in (True, False, 0, 1):
        raise InputError(f"its label is {liked!r}, and must be true or false")
    asked = in_order(_asked(record))
    return [Thumb(asked, _answer(record, "completion"), bool(liked), origin)]


def _read_pair(record: Record, origin: Origin) -> list[Row]:
    if "prompt" in record:
        asked = _asked(record)
        chosen, rejected = (_answer(record, name) for name in ("chosen", "rejected"))
    else:
        asked, chosen, rejected = _split_pair(record)
    if chosen.content == rejected.content and chosen.tool_calls == rejected.tool_calls:
        raise InputError("its chosen and rejected answers are the same")
    return [Pair(in_order(asked), chosen, rejected, origin)]


def _read_question(record: Record, origin: Origin) -> list[Row]:
    asked = [user(_text(record, "question"))]
    return [Question(in_order(asked), _text(record, "answer"), origin)]


def _read_prompt(record: Record, origin: Origin) -> list[Row]:
    said = record.get("reference")
    reference = None if said is None else str(said)
    return [Question(in_order(_asked(record)), reference, origin)]


def _split_pair(record: Record) -> tuple[list[Message], Message, Message]:
    chosen, rejected = (messages_of(record[name], name) for name in ("chosen", "rejected"))
    if not chosen or not rejected or chosen[:-1] != rejected[:-1] or not chosen[:-1]:
        raise InputError("its chosen and rejected conversations differ before the last turn")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise InputError("its chosen and rejected conversations do not end with an answer")
    return chosen[:-1], chosen[-1], rejected[-1]


FORMATS = (
    Format("messages", frozenset({"messages"}), _read_messages),
    Format("ShareGPT", frozenset({"conversations"}), _read_sharegpt),
    Format("preference pairs", frozenset({"chosen", "rejected"}), _read_pair),
    Format("thumbs", frozenset({"prompt", "completion", "label"}), _read_thumb),
    Format("prompt and completion", frozenset({"prompt", "completion"}), _read_prompt_completion),
    Format("Alpaca", frozenset({"instruction", "output"}), _read_alpaca),
    Format("Self-Instruct", frozenset({"instruction", "instances"}), _read_self_instruct),
    Format("questions", frozenset({"question", "answer"}), _read_question),
    Format("prompts", frozenset({"prompt"}), _read_prompt),
)


def messages_of(value: Any, name: str) -> list[Message]:
    """Read turns as OpenAI's API, transformers or ShareGPT write them.

    Args:
        value: a list of objects.
        name: the key that it was under, for error sentences.

    Raises:
        InputError: a turn has no known speaker, or no text.
    """
    if not isinstance(value, list):
        raise InputError(f"its {name} is no list of turns")
    return [_turn(turn, number) for number, turn in enumerate(value, 1)]


def in_order(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Check that a conversation is one that people and models take turns in.

    Raises:
        InputError: it is empty, a message is, or the roles are out of order.
    """
    if not messages:
        raise InputError("it has no messages")
    before = "the beginning"
    for number, message in enumerate(messages, 1):
        if not message.content.strip() and not message.tool_calls:
            raise InputError(f"its message {number} ({message.role}) is empty")
        if message.role not in _FOLLOWERS[before]:
            raise InputError(
                f"its roles are out of order: message {number} is the {message.role}'s after "
                f"{before}"
            )
        before = message.role
    return tuple(messages)


_FOLLOWERS = {
    "the beginning": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


def _turn(turn: Any, number: int) -> Message:
    if not isinstance(turn, Mapping):
        raise InputError(f"its turn {number} is no object")
    speaker = _first(turn, ("role", "from"))
    role = ROLE_OF_SPEAKER.get(str(speaker).strip().lower())
    if role is None:
        raise InputError(f"the speaker {speaker!r} of its turn {number} is unknown")
    content = _first(turn, ("content", "value", "text"))
    calls = tuple(_calls(turn.get("tool_calls") or ()))
    if content is None and calls:
        content = ""
    if isinstance(content, list):
        content = "".join(_part(part, number) for part in content)
    if not isinstance(content, str):
        raise InputError(f"its turn {number} has no text")
    thought = turn.get("reasoning_content") or ""
    return Message(role, content, turn.get("name"), calls, thought)


def _part(part: Any, number: int) -> str:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    raise InputError(f"its turn {number} holds something else than text")


def _calls(calls: Sequence[Any]) -> Iterator[ToolCall]:
    for place, call in enumerate(calls, 1):
        try:
            function = call["function"]
            arguments = function["arguments"]
            if not isinstance(arguments, str):
                arguments = json.dumps(arguments, ensure_ascii=False)
            yield ToolCall(str(call.get("id", f"call-{place}")), str(function["name"]), arguments)
        except (KeyError, TypeError, AttributeError):
            raise InputError(
                f"its tool call {place} has no function with a name and arguments"
            ) from None


def _asked(record: Record) -> list[Message]:
    prompt = record["prompt"]
    if isinstance(prompt, list):
        messages = messages_of(prompt, "prompt")
    else:
        messages = [user(_text(record, "prompt"))]
    messages = _with_system(record, messages)
    if messages and messages[-1].role not in ("user", "tool"):
        raise InputError(f"its prompt ends with the {messages[-1].role}'s turn, not a question")
    return messages


def _answer(record: Record, name: str) -> Message:
    value = record[name]
    if isinstance(value, list):
        messages = messages_of(value, name)
        if len(messages) != 1 or messages[0].role != "assistant":
            raise InputError(f"its {name} is not one answer")
        answer = messages[0]
    else:
        answer = assistant(_text(record, name))
    if not answer.content.strip() and not answer.tool_calls:
        raise InputError(f"its {name} is empty")
    return answer


def _with_system(record: Record, messages: list[Message]) -> list[Message]:
    said = record.get("system")
    if not isinstance(said, str) or not said.strip():
        return messages
    if messages and messages[0].role == "system":
        raise InputError("it has a system prompt twice")
    return [system(said), *messages]


def _joined(instruction: str, more: Any) -> str:
    return f"{instruction}\n\n{more}" if isinstance(more, str) and more.strip() else instruction


def _text(record: Record, name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise InputError(f"its {name} is no text")
    return value


def _list(record: Record, name: str) -> list[Any]:
    value = record.get(name)
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise InputError(f"its {name} is no list of objects")
    return value


def _first(turn: Record, names: Sequence[str]) -> Any:
    return next((turn[name] for name in names if turn.get(name) is not None), None)
