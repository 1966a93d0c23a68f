"""Asks a server: retries what has not begun, reads its events, and says plainly what failed."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from chatkit.engines.remote.sessions import Sessions
from chatkit.errors import EngineError, Overloaded, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import ClientResponse

# Before anything was answered a request may be sent again, after these pauses in seconds.
PAUSES = (0.2, 1.0)
BUSY = (502, 503, 504)
# A server that is alive but writes no token for so long, in seconds, does not answer.
SILENCE = 600.0
LONGEST_ERROR = 300


class Wire:
    """One server.

    Args:
        name: the model's name, for error sentences.
        url: the address, without a slash at the end.
        key: what is shown as a bearer, None for nothing.
        variable: the environment variable that holds the key, for error sentences.
    """

    def __init__(self, name: str, url: str, key: str | None, variable: str) -> None:
        self.name = name
        self.url = url
        self.variable = variable
        self.sessions = Sessions(key)

    async def get(self, path: str) -> Any:
        """Ask for a page of JSON, None when there is no such page.

        Raises:
            EngineError: the server cannot be reached, or answers something else.
        """
        async with self._answered("GET", path, None) as reply:
            return None if reply is None else await self._json(reply)

    async def reach(self, path: str) -> None:
        """Return when a page is there, whatever it says.

        Raises:
            EngineError: the server cannot be reached, or says that it cannot work.
        """
        async with self._answered("GET", path, None) as reply:
            if reply is None:
                raise self._failed(f"has no {path}")

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send JSON and give the JSON that comes back, None when there is no such page.

        Raises:
            Unsupported: the server refuses the request.
            Overloaded: it has too much to do.
            EngineError: it cannot be reached, or answers something else.
        """
        async with self._answered("POST", path, body) as reply:
            return None if reply is None else await self._json(reply)

    async def events(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """Send JSON and give each event's JSON as it comes; ends at `[DONE]` or with the stream.

        Raises: as `post`.
        """
        async with self._answered("POST", path, body) as reply:
            if reply is None:
                raise self._failed(f"has no {path}")
            if reply.content_type != "text/event-stream":
                raise self._failed(
                    f"answered {path} with {reply.content_type or 'nothing'} instead of a stream"
                )
            heard = time.monotonic()
            with self._told():
                async for line in reply.content:
                    if line.startswith(b"data:"):
                        text = line[5:].strip()
                        if text == b"[DONE]":
                            return
                        heard = time.monotonic()
                        yield self._parsed(text)
                    elif time.monotonic() - heard > SILENCE:
                        raise self._failed(f"wrote nothing for {SILENCE:.0f} seconds")

    def failed(self, reason: str) -> EngineError:
        """Make the error for a server that did something else than it should."""
        return self._failed(reason)

    @asynccontextmanager
    async def _answered(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> "AsyncIterator[ClientResponse | None]":
        """Send a request, again after a pause while the server is not there yet."""
        from aiohttp import ClientConnectionError

        for pause in (*PAUSES, None):
            with self._told():
                try:
                    reply = await self.sessions.get().request(
                        method, self.url + path, json=body, allow_redirects=False
                    )
                except ClientConnectionError as error:
                    if pause is None or not _passes(error):
                        raise
                    reply = None
            if reply is not None and (reply.status not in BUSY or pause is None):
                break
            if reply is not None:
                reply.close()
            assert pause is not None
            await asyncio.sleep(pause)
        assert reply is not None
        # A reply that is not read to its end closes its connection, by which the server stops.
        async with reply:
            if reply.status == 200:
                yield reply
            elif reply.status in (404, 405):
                yield None
            else:
                await self._refuse(reply)

    async def _refuse(self, reply: "ClientResponse") -> NoReturn:
        with self._told():
            text = (await reply.content.read(65_536)).decode("utf-8", "replace")
        said = _message(text)
        if reply.status == 429:
            raise Overloaded(
                f"The server of {self.name} has too much to do; try again later.",
                _retry_after(reply.headers.get("Retry-After")),
            )
        if reply.status in (401, 403):
            raise EngineError(
                f"The server of {self.name} does not accept the key; set {self.variable}."
            )
        if reply.status in (400, 413, 415, 422):
            raise Unsupported(
                f"The server of {self.name} refuses the request ({said}); change its options."
            )
        raise self._failed(f"answered {reply.status} ({said})")

    async def _json(self, reply: "ClientResponse") -> Any:
        with self._told():
            content = await reply.content.read(2**24)
            while piece := await reply.content.read(2**24):
                content += piece
                if len(content) > 2**25:
                    raise self._failed("answered without end")
        return self._parsed(content)

    def _parsed(self, content: bytes) -> Any:
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            shown = content[:60].decode("utf-8", "replace")
            raise self._failed(f"answered something that is no JSON ({shown!r})") from None
        if isinstance(value, dict) and "error" in value and value["error"]:
            raise self._told_error(value)
        return value

    def _told_error(self, value: Mapping[str, Any]) -> EngineError:
        """Take an error that came as an event or with status 200."""
        kind, said = value.get("error_type"), _message(json.dumps(value))
        if kind == "overloaded":
            return Overloaded(f"The server of {self.name} has too much to do; try again later.")
        if kind == "validation":
            return _Refused(
                f"The server of {self.name} refuses the request ({said}); change its options."
            )
        return self._failed(f"failed while it answered ({said})")

    def _failed(self, reason: str) -> EngineError:
        return EngineError(f"The server of {self.name} {reason}; see whether it is the right one.")

    @contextmanager
    def _told(self) -> "Iterator[None]":
        """Say in one sentence why a server cannot be reached or read."""
        from aiohttp import ClientConnectorCertificateError, ClientError, ClientSSLError
        from aiohttp.http_exceptions import HttpProcessingError

        try:
            yield
        except (ClientConnectorCertificateError, ClientSSLError) as error:
            reason = " ".join(str(error).split())[:LONGEST_ERROR]
            raise EngineError(
                f"The certificate of the server of {self.name} cannot be trusted ({reason}); "
                "renew it, or trust its issuer on this machine."
            ) from None
        except TimeoutError:
            raise EngineError(
                f"The server of {self.name} did not answer in time; see whether it is overloaded."
            ) from None
        except (ClientError, HttpProcessingError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:LONGEST_ERROR] or type(error).__name__
            raise EngineError(
                f"The server of {self.name} cannot be reached or read ({reason}); see whether it "
                "runs."
            ) from None


class _Refused(EngineError, Unsupported):
    """A refusal that came inside a stream."""

    @property
    def kind(self) -> str:
        return Unsupported.__name__


def _passes(error: Exception) -> bool:
    """Tell whether a server may be there in a moment; a wrong certificate stays wrong."""
    from aiohttp import ClientSSLError

    return not isinstance(error, ClientSSLError)


def _message(text: str) -> str:
    """Find what an error's body says, in one line."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    while isinstance(value, dict):
        value = value.get("error") or value.get("message") or value.get("detail") or ""
    return " ".join(str(value).split())[:LONGEST_ERROR].rstrip(".") or "it says nothing"


def _retry_after(text: str | None) -> float:
    try:
        return min(max(float(text or 1), 0.0), 3600.0)
    except ValueError:
        return 1.0
