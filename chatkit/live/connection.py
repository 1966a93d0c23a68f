"""How Redis is reached, and how its absence is borne."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chatkit import telemetry
from chatkit.errors import InputError, StoreUnavailable

BLOCK_SECONDS = 5
# Half-open connections say nothing; a blocked read must be given longer than it asks for.
_ANSWER_SECONDS = BLOCK_SECONDS + 5
_CONNECT_SECONDS = 2
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
FAILURES = (RedisError, OSError)


def connect(url: str) -> Redis:
    """Make a client, which connects when it is first used.

    Raises:
        InputError: the address cannot be understood.
    """
    try:
        if urlsplit(url).scheme not in ("redis", "rediss", "unix"):
            raise ValueError
        return Redis.from_url(
            url,
            # The older protocol has one form of answers in every version of the client.
            protocol=2,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_CONNECT_SECONDS,
            # A hidden second try would hide that Redis was away, too.
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise InputError(
            "The address of Redis is not of the form redis://HOST:PORT/NUMBER; correct "
            "CHATKIT_REDIS_URL."
        ) from None


def unavailable(url: str, error: Exception) -> StoreUnavailable:
    """Say that Redis does not answer, without the password in its address."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2] or parts.path
    said = str(error).rstrip(".")
    return StoreUnavailable(
        f"Redis at {place} does not answer ({said}); check that it runs and that "
        "CHATKIT_REDIS_URL is right."
    )


def keep_doing(step: Callable[[], Awaitable[None]], pause_seconds: float) -> asyncio.Task[None]:
    """Start a task that repeats a step for ever; after failures its pauses grow to a second.

    Args:
        step: what to do.
        pause_seconds: the pause after a success.
    """
    # A context of its own: it works for all requests, not for the one that happens to be first.
    return asyncio.create_task(_repeat(step, pause_seconds), context=Context())


async def _repeat(step: Callable[[], Awaitable[None]], pause_seconds: float) -> None:
    failures = 0
    while True:
        try:
            await step()
            if failures:
                telemetry.event("redis is back", failures=failures)
            failures = 0
        # Not only Redis's own: ending here would end every stream, and nobody would know.
        except Exception as error:
            failures += 1
            if failures == 1:
                telemetry.event("redis failed", error=type(error).__name__)
        pauses = (pause_seconds, *_RETRY_SECONDS)
        await asyncio.sleep(pauses[min(failures, len(_RETRY_SECONDS))])
