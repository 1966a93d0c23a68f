"""Options that people write into YAML files: what is wrong with one is said in one sentence."""

import difflib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from chatkit.errors import InputError

Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1, max_length=4_096, pattern=r"^[^\x00-\x1f]+$")]


class Options(BaseModel):
    """A group of options, which refuses unknown ones and names the nearest.

    A subclass sets `title`, which error sentences call it by.

    Raises:
        InputError: a value is out of range or an option unknown, in one sentence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: ClassVar[str]

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            raise InputError(_sentence(cls, error.errors()[0])) from None


def read_yaml(path: Path, hint: str) -> dict[str, Any]:
    """Read a file that holds a YAML mapping.

    Args:
        path: the file.
        hint: what to begin such a file with, for the sentence that refuses an empty one.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); check the path.") from None
    return parse_yaml(text, str(path), hint)


def parse_yaml(text: str, origin: str, hint: str) -> dict[str, Any]:
    """Read a YAML mapping.

    Args:
        text: the YAML.
        origin: where it is from, for error sentences.
        hint: as for `read_yaml`.

    Raises:
        InputError: it is no YAML, or no mapping.
    """
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Its own text has several lines.
        reason = " ".join(str(error).split())
        raise InputError(f"{origin} is no YAML ({reason}); correct it.") from None
    if not isinstance(said, dict):
        raise InputError(f"{origin} holds no options; begin with {hint}.")
    return said


def _sentence(part: type[Options], error: ErrorDetails) -> str:
    name = ".".join(str(step) for step in error["loc"])
    title = part.title[0].upper() + part.title[1:]
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, part.model_fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use {', '.join(part.model_fields)}."
        return f"{title} has no option {name!r}; {hint}"
    if error["type"] == "missing":
        return f"{title} has no {name}; add it."
    said = error["msg"][0].lower() + error["msg"][1:]
    return f"The option {name} of {part.title} is {error['input']!r}; {said}."
