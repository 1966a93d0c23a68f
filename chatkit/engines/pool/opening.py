"""Opens the servers of a pool, and holds them to being the same model."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from chatkit.engine import Engine
from chatkit.engines.pool.configuration import Server
from chatkit.errors import ChatkitError, EngineError, InputError

Opener = Callable[[Server], Engine]
"""Opens a server's engine; blocking, called on a thread."""

AT_ONCE = 8


class Opened(NamedTuple):
    """What became of servers: those with an engine, and those that cannot be reached now."""

    engines: list[tuple[Server, Engine]]
    missing: list[Server]


def open_servers(servers: Sequence[Server], opener: Opener) -> Opened:
    """Open servers side by side; all or, when one can never serve, none.

    Raises:
        ChatkitError: one cannot be opened for a reason that waiting does not mend.
    """
    with ThreadPoolExecutor(AT_ONCE) as threads:
        tries = list(threads.map(lambda server: _try(server, opener), servers))
    engines = [(server, got) for server, got in tries if not isinstance(got, Exception)]
    failures = [(server, got) for server, got in tries if isinstance(got, Exception)]
    for server, error in failures:
        if not isinstance(error, EngineError):
            close_all(engine for _, engine in engines)
            raise error
        logging.getLogger(__name__).warning("server %s is left out: %s", server.name, error)
    return Opened(engines, [server for server, _ in failures])


def check_same(servers: Iterable[tuple[str, Engine]]) -> None:
    """Refuse servers that do not render messages to the same tokens.

    Args:
        servers: their names and engines.

    Raises:
        InputError: two have different templates.
    """
    first: tuple[str, str] | None = None
    for name, engine in servers:
        identity = str(engine.template.identity)
        first = first or (name, identity)
        if identity != first[1]:
            raise InputError(
                f"The server {first[0]} has the template {first[1]} and {name} has {identity}; "
                "servers of one pool must have the same model, so give each a pool of its own."
            )


def close_all(engines: Iterable[Engine]) -> None:
    """Close engines; called on a thread without an event loop."""
    for engine in engines:
        asyncio.run(engine.close())


def _try(server: Server, opener: Opener) -> tuple[Server, Engine | ChatkitError]:
    try:
        return server, opener(server)
    except ChatkitError as error:
        return server, error
