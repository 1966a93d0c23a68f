"""Reads requests: their key, their body, and what they ask for."""

import asyncio
import hmac
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from serve.wire.options import WireOptions
from serve.wire.refusals import Refusal, Refused, no_json, unauthorized

Body = TypeVar("Body", bound=BaseModel)


def check_key(request: Request, key: str | None) -> None:
    """Let only those in who show the key; takes as long for a nearly right one as for any other.

    Raises:
        Refusal: it is missing or another one.
    """
    if key is None:
        return
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(shown.strip().encode(), key.encode())
    if not right or scheme.lower() != "bearer":
        raise Refusal(unauthorized())


async def read_json(request: Request, options: WireOptions) -> Any:
    """Read a body of JSON.

    Raises:
        Refusal: it is no JSON, is too large, or does not come in time.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise Refusal(Refused(415, "Expected request with `Content-Type: application/json`", ""))
    content = await _read(request, options)
    try:
        value = json.loads(content, parse_constant=_no_number)
        if b"\\u" in content:
            # Half of a surrogate pair is JSON, and no text.
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        said = f"Failed to parse the request body as JSON: {no_json(error)}"
        raise Refusal(Refused(400, said, "")) from None


def typed(kind: type[Body], value: Any) -> Body:
    """Take a request's fields.

    Raises:
        Refusal: one is missing or of a wrong type.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(step) for step in first["loc"])
        place = f"{path}: " if path else ""
        raise Refusal(
            Refused(
                422,
                "Failed to deserialize the JSON body into the target type: "
                f"{place}{first['msg'][0].lower()}{first['msg'][1:]}",
                "",
            )
        ) from None


async def _read(request: Request, options: WireOptions) -> bytes:
    too_large = Refusal(
        Refused(413, "Failed to buffer the request body: length limit exceeded", "")
    )
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > options.payload_limit:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(options.patience_seconds):
            async for piece in request.stream():
                content += piece
                if len(content) > options.payload_limit:
                    raise too_large
    except TimeoutError:
        raise Refusal(
            Refused(408, "The request body did not come in time.", "", {"Connection": "close"})
        ) from None
    except ClientDisconnect:
        raise Refusal(Refused(400, "The request ended before its body did.", "")) from None
    return bytes(content)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")
