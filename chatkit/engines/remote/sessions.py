"""Connections to one server, kept open between requests: one pool for each event loop."""

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import ClientSession

CONNECT_SECONDS = 10.0
# A server is silent while it reads a long prompt, and between two tokens under load.
READ_SECONDS = 120.0
CONNECTIONS = 256
# The last event of TGI repeats the whole answer on one line.
LINE_BYTES = 2**23


class Sessions:
    """Opens a pool of connections for whichever event loop asks; works from any thread.

    Args:
        key: what is shown to the server as a bearer, None for nothing.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key
        self._lock = threading.Lock()
        self._by_loop: dict[asyncio.AbstractEventLoop, ClientSession] = {}

    def get(self) -> "ClientSession":
        """Give the pool of the running loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            session = self._by_loop.get(loop)
            if session is None or session.closed:
                self._forget_closed_loops()
                session = self._by_loop[loop] = self._open()
        return session

    async def close(self) -> None:
        """Close the pools of all loops that still run."""
        with self._lock:
            sessions, self._by_loop = dict(self._by_loop), {}
        here = asyncio.get_running_loop()
        for loop, session in sessions.items():
            if loop is here:
                await session.close()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(session.close(), loop)
                await asyncio.wrap_future(closing)

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._by_loop if loop.is_closed()]:
            del self._by_loop[loop]

    def _open(self) -> "ClientSession":
        from aiohttp import ClientSession, ClientTimeout, TCPConnector

        # The key goes to this server only: no proxy, no redirection and no netrc may take it on.
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return ClientSession(
            headers=headers,
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
            connector=TCPConnector(limit=CONNECTIONS),
            read_bufsize=LINE_BYTES,
        )
