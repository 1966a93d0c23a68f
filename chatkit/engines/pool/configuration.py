"""What a pool's YAML file says."""

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
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from chatkit.errors import InputError

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    title: ClassVar[str]

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            raise InputError(_sentence(cls, error.errors()[0])) from None


class Server(_Part):
    """One server.

    Args:
        name: what logs and metrics call it.
        model: what is opened, any name of a model, such as `tgi:http://10.0.0.5:8080`.
        weight: how much it can do beside the others; twice the weight, twice the tokens.
        limit: how many requests it is given at once.
        api_key_env: the environment variable that holds its key; None when it wants none.
    """

    title = "a server"

    name: Text
    model: Text
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    limit: Count = 32
    api_key_env: Text | None = None

    def same_engine(self, other: "Server") -> bool:
        """Whether the same engine serves both: only weight and limit may differ."""
        parts = {"name", "model", "api_key_env"}
        return self.model_dump(include=parts) == other.model_dump(include=parts)


class QueueOptions(_Part):
    """Who may wait.

    Args:
        limit: how many requests may wait together.
        per_user: how many of one user may wait.
        seconds: how long a request may wait for its first server.
    """

    title = "queue"

    limit: Annotated[int, Field(ge=0)] = 256
    per_user: Annotated[int, Field(ge=0)] = 32
    seconds: Seconds = 60.0


class HealthOptions(_Part):
    """How servers are watched.

    Args:
        every_seconds: the pause between two checks of a server.
        timeout_seconds: how long a check may take.
        failures: after how many failed checks in a row a server gets no more requests.
    """

    title = "health"

    every_seconds: Seconds = 5.0
    timeout_seconds: Seconds = 5.0
    failures: Count = 2


class BreakerOptions(_Part):
    """When a server that fails is left in peace.

    Args:
        failures: after how many failed requests in a row.
        pause_seconds: for how long the first time; it doubles each time that it was in vain.
        longest_seconds: for how long at most.
    """

    title = "breaker"

    failures: Count = 3
    pause_seconds: Seconds = 1.0
    longest_seconds: Seconds = 60.0


class AffinityOptions(_Part):
    """How a conversation stays where its beginning is cached.

    Args:
        margin_tokens: how many more outstanding tokens, for each unit of weight, its server may
            have than the idlest; above that it moves.
        remembered: how many prompts are remembered.
        block_tokens: prompts are compared in blocks of so many tokens.
    """

    title = "affinity"

    margin_tokens: Annotated[int, Field(ge=0)] = 8192
    remembered: Count = 20_000
    block_tokens: Count = 16


class Configuration(_Part):
    """All of it.

    Args:
        name: what logs, metrics and errors call the pool.
        servers: at least one, each with a name of its own.
        fallback: the model that answers when every server has failed, as the name of a model or
            like a server; None for none.
        queue: who may wait.
        deadline_seconds: how long an answer may take from asking to its end, the wait included.
        health: how servers are watched.
        breaker: when a server that fails is left in peace.
        affinity: how a conversation stays where its beginning is cached.

    Raises:
        InputError: a value is out of range or an option unknown, in one sentence.
    """

    title = "the pool"

    name: Text
    servers: Annotated[tuple[Server, ...], Field(min_length=1)]
    fallback: Server | None = None
    queue: QueueOptions = QueueOptions()
    deadline_seconds: Seconds = 600.0
    health: HealthOptions = HealthOptions()
    breaker: BreakerOptions = BreakerOptions()
    affinity: AffinityOptions = AffinityOptions()

    @field_validator("fallback", mode="before")
    @classmethod
    def _named(cls, fallback: Any) -> Any:
        """Take the name of a model alone, too."""
        if isinstance(fallback, str):
            return {"name": fallback, "model": fallback}
        return fallback

    @model_validator(mode="after")
    def _different_names(self) -> Self:
        names = [server.name for server in self.servers]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"Two servers are called {twice!r}; give each a name of its own.")
        return self


def parse_configuration(text: str, origin: str) -> Configuration:
    """Read a configuration.

    Args:
        text: the YAML.
        origin: where it is from, for error sentences.

    Raises:
        InputError: it is no YAML, or says what no pool can be.
    """
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Its own text has several lines.
        reason = " ".join(str(error).split())
        raise InputError(f"{origin} is no YAML ({reason}); correct it.") from None
    if not isinstance(said, dict):
        raise InputError(f"{origin} holds no options; begin with `name:` and `servers:`.")
    try:
        return Configuration.model_validate(said)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None


def read_configuration(path: Path) -> Configuration:
    """Read a configuration from a file.

    Raises:
        InputError: the file cannot be read, or as `parse_configuration`.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); check the path.") from None
    return parse_configuration(text, str(path))


def _sentence(part: type[_Part], error: ErrorDetails) -> str:
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
