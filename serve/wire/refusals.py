"""What a refused caller is told: status and body, as TGI words them."""

import json
import logging
from dataclasses import dataclass, field

from starlette.responses import Response

from chatkit.errors import (
    ChatkitError,
    InputError,
    Overloaded,
    PromptTooLong,
    SamplingError,
    TemplateError,
    Unsupported,
)

VALIDATION = "Input validation error: "
TGI_OVERLOADED = "Model is overloaded"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request was not answered.

    Args:
        status: the HTTP status.
        error: the sentence.
        kind: TGI's name for the kind of error; empty for a body of plain text.
        headers: what goes with it.
    """

    status: int
    error: str
    kind: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, str]:
        """The body as TGI writes it."""
        return {"error": self.error, "error_type": self.kind}

    def response(self) -> Response:
        """Give the whole reply."""
        if self.kind:
            content, media = json.dumps(self.body, ensure_ascii=False), "application/json"
        else:
            content, media = self.error, "text/plain; charset=utf-8"
        return Response(content, self.status, self.headers, media)


class Refusal(Exception):
    """Ends the handling of a request with a reply.

    Args:
        refused: the reply.
    """

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.error)
        self.refused = refused


class Incomplete(Exception):
    """The engine ended an answer without saying why."""


def validation(message: str) -> Refused:
    """Refuse a value of a request."""
    return Refused(422, VALIDATION + message, "validation")


def overloaded(retry_after: float = 1.0) -> Refused:
    """Refuse because too many requests are there already."""
    headers = {"Retry-After": str(max(1, round(retry_after)))}
    return Refused(429, TGI_OVERLOADED, "overloaded", headers)


def unauthorized() -> Refused:
    """Refuse a caller without the right key."""
    return Refused(401, "", "", {"WWW-Authenticate": "Bearer"})


def refused(error: Exception, *, streaming: bool = False) -> Refused:
    """Say what an error means to a caller.

    Args:
        error: what was raised.
        streaming: whether it ends a stream.
    """
    if isinstance(error, Refusal):
        return error.refused
    if isinstance(error, Incomplete):
        kind = "incomplete_generation_stream" if streaming else "incomplete_generation"
        said = "Incomplete generation stream" if streaming else "Incomplete generation"
        return Refused(500, said, kind)
    if isinstance(error, ChatkitError):
        return _known(error)
    logging.getLogger(__name__).error("an answer failed", exc_info=error)
    return Refused(
        424, "Request failed during generation: an unexpected error; see the log.", "generation"
    )


def _known(error: ChatkitError) -> Refused:
    if isinstance(error, TemplateError):
        return Refused(422, f"Template error: {error}", "template_error")
    if isinstance(error, InputError | PromptTooLong | SamplingError | Unsupported):
        return validation(str(error))
    if isinstance(error, Overloaded):
        return overloaded(error.retry_after)
    return Refused(424, f"Request failed during generation: {error}", "generation")


def no_json(error: ValueError | RecursionError) -> str:
    """Say why a client's text could not be read as JSON."""
    return str(error) if isinstance(error, ValueError) else "it is nested too deeply"
