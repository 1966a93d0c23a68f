"""The chat request of OpenAI's API, as TGI and OpenAI's own client send it.

Source: OpenAI API reference, chat completions; text-generation-inference v3.3.7, router/src/lib.rs.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from chatkit.errors import InputError, SamplingError
from chatkit.messages import ROLES, Message, Role, ToolCall
from chatkit.sampling import Sampling
from serve.wire.options import WireOptions
from serve.wire.refusals import Refusal, validation
from serve.wire.tgi_requests import SEEDS, Flag, Grammar, Number, Seed, Unsigned, grammar_of


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Lenient):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class FunctionCall(_Lenient):
    """A function that the assistant asked for; the arguments are JSON, or text that holds it."""

    name: str
    arguments: str | dict[str, Any] = ""


class ToolCallBody(_Lenient):
    """A call of a tool in an earlier answer."""

    id: str = ""
    function: FunctionCall


class MessageBody(_Lenient):
    """A message, with text or with the calls that an assistant asked for."""

    role: str
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallBody] | None = None

    def message(self) -> Message:
        """Give our message.

        Raises:
            InputError: the role is unknown, or there is neither text nor a call.
        """
        role = "system" if self.role == "developer" else self.role
        if role not in ROLES:
            raise InputError(f"A message's role is {self.role!r}; use one of {', '.join(ROLES)}.")
        if self.content is None and not self.tool_calls:
            raise InputError(f"The {role} message has neither content nor tool_calls; write one.")
        parts = self.content or ""
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        calls = tuple(
            ToolCall(call.id, call.function.name, _as_text(call.function.arguments))
            for call in self.tool_calls or ()
        )
        known: Role = role  # type: ignore[assignment]
        return Message(known, text, self.name, calls)


class Function(_Lenient):
    """What a tool is called, does and takes."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = None

    @property
    def schema_of_arguments(self) -> dict[str, Any]:
        """The JSON schema of its arguments; TGI's older key is taken, too."""
        return self.parameters or self.arguments or {"type": "object", "properties": {}}


class Tool(_Lenient):
    """A tool that the answer may ask for."""

    type: str = "function"
    function: Function


class StreamOptions(_Lenient):
    """What a stream tells besides its text."""

    include_usage: bool = False


class Drawing(_Lenient):
    """What chat and completion requests share: how tokens are drawn."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Unsigned | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    frequency_penalty: Number | None = None
    presence_penalty: Number | None = None
    seed: Seed | None = None
    stop: list[str] = []
    n: Unsigned | None = None
    user: str | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _several(cls, stop: Any) -> Any:
        if stop is None:
            return []
        return [stop] if isinstance(stop, str) else stop

    @property
    def includes_usage(self) -> bool:
        """Whether a stream tells in the end what it took."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(Drawing):
    """Messages to answer, and how."""

    messages: list[MessageBody] = Field(min_length=1)
    max_completion_tokens: Unsigned | None = None
    logprobs: Flag | None = None
    top_logprobs: Unsigned | None = None
    logit_bias: dict[str, float] | list[float] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    # Only the `text_generation` package sends this key, and it wants frames of its own.
    repetition_penalty: Number | None = None

    @property
    def from_text_generation(self) -> bool:
        """Whether the `text_generation` package sent it."""
        return "repetition_penalty" in self.model_fields_set

    @property
    def longest(self) -> int | None:
        """The longest answer in tokens, under either name."""
        return self.max_completion_tokens or self.max_tokens or None


def chat_sampling(
    request: ChatRequest, options: WireOptions, schema: dict[str, Any] | None
) -> Sampling:
    """Say in our words how an answer is drawn; what is unset is the model's own default.

    Args:
        request: what is asked.
        options: what is allowed.
        schema: what tools bind the answer to.

    Raises:
        Refusal: a value is out of range, or something is asked for that there is not.
    """
    if request.logit_bias:
        raise Refusal(validation("`logit_bias` is not supported here; leave it out"))
    if (request.top_logprobs or 0) > options.max_top_n_tokens:
        raise Refusal(
            validation(
                f"`top_n_tokens` must be >= 0 and <= {options.max_top_n_tokens}. "
                f"Given: {request.top_logprobs}"
            )
        )
    bound = {"json_schema": schema} if schema else _format(request.response_format, options)
    drawn = drawn_sampling(request, options, request.longest)
    told = (request.top_logprobs or 0) if request.logprobs else None
    return drawn.model_copy(update={"logprobs": told, **checked_grammar(bound)})


def drawn_sampling(request: Drawing, options: WireOptions, longest: int | None) -> Sampling:
    """Say in our words how tokens are drawn.

    Args:
        request: what is asked.
        options: what is allowed.
        longest: the longest answer in tokens, None for all that fits.

    Raises:
        Refusal: a value is out of range.
    """
    stops = [text for text in request.stop if text]
    if len(stops) > options.max_stop_sequences:
        raise Refusal(
            validation(
                f"`stop` supports up to {options.max_stop_sequences} stop sequences. "
                f"Given: {len(stops)}"
            )
        )
    presence, repetition = request.presence_penalty, None
    if options.tgi_compat and presence is not None:
        repetition, presence = presence + 2, None
    try:
        return Sampling(
            max_tokens=longest,
            temperature=request.temperature,
            top_p=request.top_p,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=presence,
            repetition_penalty=repetition,
            stop=tuple(stops),
            seed=None if request.seed is None else request.seed % SEEDS,
        )
    except SamplingError as error:
        raise Refusal(validation(str(error))) from None


def checked_grammar(bound: dict[str, Any]) -> dict[str, Any]:
    """Hold what binds an answer to the rules of our sampling.

    Raises:
        Refusal: the schema is none.
    """
    try:
        Sampling(**bound)
    except SamplingError as error:
        raise Refusal(validation(f"grammar is not valid: {error}")) from None
    return bound


def _format(asked: dict[str, Any] | None, options: WireOptions) -> dict[str, Any]:
    """Take `response_format` as TGI, OpenAI and `InferenceClient` write it."""
    if asked is None or asked.get("type") == "text":
        return {}
    kind = asked.get("type")
    if kind not in ("json", "json_object", "json_schema", "regex"):
        raise Refusal(
            validation(
                f"grammar is not valid: response_format has the type {kind!r}; use json_object, "
                "json_schema, regex or text"
            )
        )
    value = asked.get("value", asked.get("json_schema"))
    if value is None and kind == "json_object":
        if not options.grammar:
            raise Refusal(validation("grammar is not supported"))
        return {"json_schema": {"type": "object"}}
    return grammar_of(Grammar(type=kind, value=value), options)


def _as_text(arguments: str | dict[str, Any]) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
