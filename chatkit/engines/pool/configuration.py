"""What a pool's YAML file says."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from chatkit.errors import InputError
from chatkit.yaml_options import Count, Options, parse_yaml, read_yaml

HINT = "`name:` and `servers:`"
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]


class Server(Options):
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


class QueueOptions(Options):
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


class HealthOptions(Options):
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


class BreakerOptions(Options):
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


class AffinityOptions(Options):
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


class Configuration(Options):
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
    return _configuration(parse_yaml(text, origin, HINT), origin)


def read_configuration(path: Path) -> Configuration:
    """Read a configuration from a file.

    Raises:
        InputError: the file cannot be read, or as `parse_configuration`.
    """
    return _configuration(read_yaml(path, HINT), str(path))


def _configuration(said: dict[str, Any], origin: str) -> Configuration:
    try:
        return Configuration.model_validate(said)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
