"""`text_generation`'s client on a shared pool of connections, with what it lacks."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

from pydantic import ValidationError
from text_generation import AsyncClient
from text_generation.types import StreamResponse

from chatkit.engines.remote.wire import Wire


class Heard(NamedTuple):
    """An event: what the package reads of it, and the likeliest tokens, which it leaves out."""

    event: StreamResponse
    likeliest: list[dict[str, Any]]


class TgiClient(AsyncClient):  # type: ignore[misc]
    """Streams from one server.

    Unlike its base it keeps connections open, waits for each read instead of the whole, takes
    `adapter_id`, understands errors that are no JSON, and finds a stream that was cut short.

    Args:
        wire: the server.
    """

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire.url)
        self._wire = wire

    async def heard(
        self, inputs: str, parameters: Mapping[str, Any]
    ) -> AsyncGenerator[Heard, None]:
        """Stream the tokens of an answer; the last one carries `generated_text`.

        Args:
            inputs: the prompt.
            parameters: TGI's, `adapter_id` among them.

        Raises:
            EngineError: the server failed, or the stream ended before its last event.
            Unsupported: the server refuses the request.
            Overloaded: it has too much to do.
        """
        body = {"inputs": inputs, "parameters": {**parameters, "details": True}, "stream": True}
        async with aclosing(self._wire.events("/generate_stream", body)) as events:
            async for payload in events:
                try:
                    event = StreamResponse.model_validate(payload)
                except ValidationError:
                    raise self._wire.failed(
                        f"wrote an event that is none of TGI's ({str(payload)[:60]!r})"
                    ) from None
                yield Heard(event, payload.get("top_tokens") or [])
                if event.generated_text is not None:
                    return
        raise self._wire.failed("ended an answer before it was whole")
