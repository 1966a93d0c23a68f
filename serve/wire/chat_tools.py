"""Tools: what the model is told of them, what its answer is bound to, and what it asked for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chatkit.messages import Message
from serve.wire.chat_requests import ChatRequest, Function
from serve.wire.refusals import Refusal, Refused

NO_TOOL = "no_tool"
INTRODUCTION = (
    "You can call the functions below. Answer with one JSON object that has the keys `name`, a "
    "function's name, and `arguments`, an object that its schema accepts."
)
PLAIN = f" To answer in words, name `{NO_TOOL}` and put the words into `arguments.content`."


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of a request.

    Args:
        functions: those that the answer may ask for.
        plain: whether it may answer in words instead.
    """

    functions: tuple[Function, ...]
    plain: bool

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of an answer."""
        kinds = [_call(one.name, one.schema_of_arguments) for one in self.functions]
        if self.plain:
            words = {"type": "object", "properties": {"content": {"type": "string"}}}
            kinds.append(_call(NO_TOOL, {**words, "required": ["content"]}))
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}

    def introduce(self, messages: Sequence[Message]) -> list[Message]:
        """Tell the model of its tools, in the system message."""
        lines = [
            json.dumps(
                {
                    "name": one.name,
                    "description": one.description or "",
                    "parameters": one.schema_of_arguments,
                },
                ensure_ascii=False,
            )
            for one in self.functions
        ]
        said = "\n".join([INTRODUCTION + (PLAIN if self.plain else ""), *lines])
        if messages and messages[0].role == "system":
            return [Message("system", f"{messages[0].content}\n\n{said}"), *messages[1:]]
        return [Message("system", said), *messages]

    def read(self, answer: str) -> tuple[str, dict[str, Any] | None]:
        """Take an answer apart: words, or the call that it asks for.

        Raises:
            Refusal: the answer was cut before it was whole.
        """
        try:
            said = json.loads(answer)
            name, arguments = said["name"], said["arguments"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Refusal(
                tool_error("the answer ended before its call was whole; allow more max_tokens")
            ) from None
        if name == NO_TOOL:
            return str(arguments.get("content", "")), None
        function = {
            "description": None,
            "name": name,
            "arguments": json.dumps(arguments, ensure_ascii=False),
        }
        return "", {"id": "0", "type": "function", "function": function}


def toolbox(request: ChatRequest) -> Toolbox | None:
    """Give the tools of a request, None when it has none to use.

    Raises:
        Refusal: the choice names no tool, or another format is asked for as well.
    """
    choice = request.tool_choice
    if not request.tools or choice == "none":
        return None
    if request.response_format is not None:
        raise Refusal(tool_error("Grammar and tools are mutually exclusive"))
    functions = tuple(tool.function for tool in request.tools)
    if choice in (None, "auto"):
        return Toolbox(functions, plain=True)
    if choice == "required":
        return Toolbox(functions, plain=False)
    name = choice if isinstance(choice, str) else _named(choice)
    chosen = tuple(one for one in functions if one.name == name)
    if not chosen:
        raise Refusal(tool_error(f"Tool with name {name} not found"))
    return Toolbox(chosen, plain=False)


def tool_error(message: str) -> Refused:
    """Refuse what is wrong with tools."""
    return Refused(422, f"Tool error: {message}", "tool_error")


def _named(choice: dict[str, Any]) -> str:
    function = choice.get("function")
    return str(function.get("name", "")) if isinstance(function, dict) else ""


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
