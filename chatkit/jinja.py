"""The sandbox in which chat templates run.

Chat templates are code from strangers: they run in Jinja's immutable sandbox, with the few
helpers that the field's templates expect (`raise_exception`, `strftime_now`, `tojson`, loop
controls and the `generation` block).
"""

import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from chatkit.errors import TemplateError
from chatkit.messages import Message


class _GenerationBlock(jinja2.ext.Extension):
    """Accepts `{% generation %}…{% endgeneration %}` and renders what is inside."""

    tags = {"generation"}  # noqa: RUF012 (Jinja declares it so)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def compile_template(source: str) -> jinja2.Template:
    """Compile a chat template in the sandbox.

    Raises:
        TemplateError: the Jinja text is broken.
    """
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlock, jinja2.ext.loopcontrols],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            f"The chat template is broken in line {error.lineno} ({error.message}); "
            "take the one that the model's publisher ships."
        ) from error


def as_dictionary(message: Message, cover: Callable[[str], str]) -> dict[str, Any]:
    """Give a message in the form that chat templates read.

    Args:
        message: the message.
        cover: what is done to each of its texts.
    """
    dictionary: dict[str, Any] = {"role": message.role, "content": cover(message.content)}
    if message.name is not None:
        dictionary["name"] = cover(message.name)
    if message.reasoning:
        dictionary["reasoning_content"] = cover(message.reasoning)
    if message.tool_calls:
        dictionary["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": JsonText(cover(call.arguments))},
            }
            for call in message.tool_calls
        ]
    return dictionary


def covered(value: Any, cover: Callable[[str], str]) -> Any:
    """Give the definition of a tool with something done to each of its texts.

    Args:
        value: a JSON value.
        cover: what is done to each text, keys included.
    """
    if isinstance(value, str):
        return cover(value)
    if isinstance(value, Mapping):
        return {cover(key): covered(one, cover) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [covered(one, cover) for one in value]
    return value


class JsonText(str):
    """JSON that a template writes as it is, whether or not it passes it through `tojson`."""


def _raise_exception(message: str) -> None:
    raise TemplateError(f"The chat template refuses these messages: {message.rstrip('.')}.")


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    """Plain JSON: Jinja's own filter escapes HTML characters, which no model expects."""
    if isinstance(value, JsonText):
        return value
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)
