"""TGI's generate request: its fields and the rules that they must keep.

Source: text-generation-inference v3.3.7, router/src/lib.rs and router/src/validation.rs.
"""

import json
import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chatkit.errors import SamplingError
from chatkit.sampling import Sampling
from serve.wire.options import WireOptions
from serve.wire.refusals import Refusal, no_json, validation

Unsigned = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Signed = Annotated[int, Field(strict=True, ge=-(2**31), lt=2**31)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**64)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
SEEDS = 2**32


class Grammar(BaseModel):
    """What an answer is bound to."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["json", "json_object", "json_schema", "regex"]
    value: Any


class Parameters(BaseModel):
    """How to generate; see TGI's documentation for each."""

    model_config = ConfigDict(extra="ignore")

    adapter_id: str | None = None
    best_of: Unsigned | None = None
    temperature: Number | None = None
    repetition_penalty: Number | None = None
    frequency_penalty: Number | None = None
    top_k: Signed | None = None
    top_p: Number | None = None
    typical_p: Number | None = None
    do_sample: Flag = False
    max_new_tokens: Unsigned | None = None
    return_full_text: Flag | None = None
    stop: list[str] = []
    truncate: Unsigned | None = None
    watermark: Flag = False
    details: Flag = False
    decoder_input_details: Flag = False
    seed: Seed | None = None
    top_n_tokens: Unsigned | None = None
    grammar: Grammar | None = None

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn by chance."""
        return bool(
            self.do_sample
            or (self.temperature is not None and self.temperature != 1)
            or (self.top_k is not None and self.top_k > 0)
            or (self.top_p is not None and self.top_p < 1)
            or (self.typical_p is not None and self.typical_p < 1)
        )


class GenerateRequest(BaseModel):
    """Text to go on with, and how. Without any parameters, tokens are drawn by chance."""

    model_config = ConfigDict(extra="ignore")

    inputs: str
    parameters: Parameters = Field(default_factory=lambda: Parameters(do_sample=True))


class CompatRequest(GenerateRequest):
    """The same, where the body says whether to stream."""

    stream: Flag = False


def check_best_of(parameters: Parameters, options: WireOptions) -> int:
    """Give how many answers to draw, of which the best is given.

    Raises:
        Refusal: more than allowed.
    """
    many = parameters.best_of if parameters.best_of is not None else 1
    if many != 1 and options.max_best_of == 1:
        raise Refusal(validation("`best_of` != 1 is not allowed for this endpoint"))
    if not 0 < many <= options.max_best_of:
        raise Refusal(
            validation(f"`best_of` must be > 0 and <= {options.max_best_of}. Given: {many}")
        )
    return many


def check_parameters(parameters: Parameters, options: WireOptions) -> None:
    """Hold parameters to TGI's rules, in its order and words.

    Raises:
        Refusal: a rule is broken.
    """
    for broken, message in _rules(parameters, options):
        if broken:
            raise Refusal(validation(message))


def check_streaming(parameters: Parameters) -> None:
    """Refuse what cannot be streamed.

    Raises:
        Refusal: several answers, or the prompt's tokens, are asked for.
    """
    if parameters.best_of not in (None, 1):
        raise Refusal(validation("`best_of` != 1 is not supported when streaming tokens"))
    if parameters.decoder_input_details:
        raise Refusal(
            validation("`decoder_input_details` == true is not supported when streaming tokens")
        )


def check_inputs(inputs: str, parameters: Parameters, options: WireOptions) -> None:
    """Refuse an empty prompt, and a cut that no prompt can have.

    Raises:
        Refusal: a rule is broken.
    """
    if not inputs:
        raise Refusal(validation("`inputs` cannot be empty"))
    cut, most = parameters.truncate, options.max_input_tokens
    if cut is not None and not 0 < cut <= most:
        raise Refusal(
            validation(f"`truncate` must be strictly positive and less than {most}. Given: {cut}")
        )


def sampling_of(
    parameters: Parameters, options: WireOptions, longest: int, vocabulary: int
) -> Sampling:
    """Say in our words how tokens are drawn; TGI's neutral values stand for what is unset.

    Args:
        parameters: what was asked.
        options: what is allowed.
        longest: how many tokens the answer may have.
        vocabulary: how many tokens there are, for keeping all of them.

    Raises:
        Refusal: a value is out of every range, or the grammar is none.
    """
    draws = parameters.draws
    seed = parameters.seed if parameters.seed is not None else secrets.randbelow(SEEDS)
    try:
        return Sampling(
            max_tokens=longest,
            temperature=(parameters.temperature or 1.0) if draws else 0.0,
            top_p=parameters.top_p or 1.0,
            top_k=parameters.top_k or vocabulary,
            min_p=0.0,
            typical_p=parameters.typical_p or 1.0,
            repetition_penalty=parameters.repetition_penalty or 1.0,
            frequency_penalty=parameters.frequency_penalty or 0.0,
            presence_penalty=0.0,
            seed=seed % SEEDS,
            logprobs=parameters.top_n_tokens or 0,
            **grammar_of(parameters.grammar, options),
        )
    except SamplingError as error:
        raise Refusal(validation(str(error))) from None


def grammar_of(grammar: Grammar | None, options: WireOptions) -> dict[str, Any]:
    """Give the options of our sampling that bind an answer.

    Raises:
        Refusal: grammars are off, or this is none.
    """
    if grammar is None:
        return {}
    if not options.grammar:
        raise Refusal(validation("grammar is not supported"))
    if grammar.type == "regex":
        if not isinstance(grammar.value, str):
            raise Refusal(validation("grammar is not valid: a regex is a string"))
        return {"regex": grammar.value}
    schema = grammar.value
    if grammar.type == "json_schema" and isinstance(schema, dict):
        schema = schema.get("schema")
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise Refusal(validation(f"grammar is not valid: {no_json(error)}")) from None
    if not isinstance(schema, dict) or "properties" not in schema:
        raise Refusal(
            validation("grammar is not valid: a schema must have `properties` at its top level")
        )
    return {"json_schema": schema}


def _rules(parameters: Parameters, options: WireOptions) -> list[tuple[bool, str]]:
    one, stops = parameters, len(parameters.stop)
    return [
        (
            (one.best_of or 1) > 1 and not one.draws,
            "you must use sampling when `best_of` is > 1",
        ),
        (_not_above_zero(one.temperature), "`temperature` must be strictly positive"),
        (_not_above_zero(one.repetition_penalty), "`repetition_penalty` must be strictly positive"),
        (
            one.frequency_penalty is not None and not -2 <= one.frequency_penalty <= 2,
            "`frequency_penalty` must be >= -2.0 and <= 2.0",
        ),
        (_not_inside(one.top_p), "`top_p` must be > 0.0 and < 1.0"),
        (_not_inside(one.typical_p), "`typical_p` must be > 0.0 and < 1.0"),
        (_not_above_zero(one.top_k), "`top_k` must be strictly positive"),
        (one.max_new_tokens == 0, "`max_new_tokens` must be strictly positive"),
        (
            stops > options.max_stop_sequences,
            f"`stop` supports up to {options.max_stop_sequences} stop sequences. Given: {stops}",
        ),
        (
            (one.best_of or 1) > 1 and one.seed is not None,
            "`seed` must not be set when `best_of` > 1",
        ),
        (
            (one.top_n_tokens or 0) > options.max_top_n_tokens,
            f"`top_n_tokens` must be >= 0 and <= {options.max_top_n_tokens}. "
            f"Given: {one.top_n_tokens}",
        ),
        (one.watermark, "`watermark` is not supported here; leave it out"),
    ]


def _not_above_zero(value: float | None) -> bool:
    return value is not None and value <= 0


def _not_inside(value: float | None) -> bool:
    return value is not None and not 0 < value < 1
