"""How an answer is drawn from the model's distribution."""

import difflib
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, ValidationError

from chatkit.errors import SamplingError


class Sampling(BaseModel):
    """How an answer is drawn; None leaves a value to the model's own default.

    Args:
        max_tokens: the longest answer in tokens; None is a quarter of the context window.
        temperature: 0 always takes the likeliest token; 1 is the model's own distribution.
        top_p: keep the likeliest tokens whose probabilities add up to this.
        top_k: keep this many of the likeliest tokens.
        min_p: keep tokens at least this fraction as likely as the likeliest.
        typical_p: keep the tokens whose surprise is nearest to the expected one, up to this much
            probability (Meister et al. 2022, arXiv:2202.00666).
        repetition_penalty: divide the logits of tokens seen before by this (CTRL, Keskar 2019).
        presence_penalty: subtract this from the logits of tokens seen before.
        frequency_penalty: subtract this times the count of each token seen before.
        stop: strings that end the answer and do not appear in it.
        seed: the same seed gives the same answer from the same engine, if it reads the prompt anew
            both times; one that is kept may turn a close draw.
        json_schema: the answer is JSON that this schema accepts.
        regex: the whole answer matches this regular expression.
        logprobs: tell every token with its log-probability and those of so many of the likeliest
            tokens in its place; None tells none.

    Raises:
        SamplingError: a value is out of range, or an option is unknown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    min_p: Annotated[float, Field(ge=0, lt=1)] | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    json_schema: dict[str, Any] | None = None
    regex: Annotated[str, Field(min_length=1)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @field_validator("json_schema")
    @classmethod
    def _valid_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None:
            from chatkit.json_schemas import schema_fault

            if fault := schema_fault(schema):
                raise SamplingError(
                    f"The json_schema is not a valid JSON schema ({fault}); correct it."
                )
        return schema

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(
        cls, value: Any, handler: ModelWrapValidatorHandler["Sampling"]
    ) -> "Sampling":
        try:
            return handler(value)
        except ValidationError as error:
            raise SamplingError(_sentence(error.errors()[0])) from None

    def over(self, default: "Sampling") -> "Sampling":
        """Fill what is unset here from `default`."""
        chosen = {name: value for name, value in self if value not in (None, ())}
        return default.model_copy(update=chosen)


def _sentence(error: ErrorDetails) -> str:
    name = ".".join(str(part) for part in error["loc"][:1])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Sampling.model_fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use {', '.join(Sampling.model_fields)}."
        return f"Sampling has no option {name!r}; {hint}"
    said = error["msg"][0].lower() + error["msg"][1:]
    return f"The sampling option {name} is {error['input']!r}; {said.replace('input ', 'it ')}."
