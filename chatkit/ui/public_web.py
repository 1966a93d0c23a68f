"""Fetches pages of the public web for visitors, and nothing that only this server can reach."""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from chatkit.errors import InputError

SECONDS, LARGEST, MOST_REDIRECTS = 5.0, 256_000, 3
_PORTS = {"http": 80, "https": 443}
_AGENT = b"chatkit (link preview)"

Judge = Callable[[str], bool]


def is_public(address: str) -> bool:
    """Tell whether an address is one that anybody in the world can reach."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = (
            _translated(found)
            or found.ipv4_mapped
            or found.sixtofour
            or (found.teredo or (None, None))[1]
        )
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Give what NAT64 makes of an address (RFC 6052)."""
    inside = address in ipaddress.ip_network("64:ff9b::/96")
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if inside else None


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to an address that it has looked up and judged itself.

    What is judged is what is connected to: a name cannot lead elsewhere a moment later.

    Args:
        allowed: whether an address may be connected to.
    """

    def __init__(self, allowed: Judge = is_public) -> None:
        self._allowed = allowed
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a host; see `httpcore.AsyncNetworkBackend`.

        Raises:
            InputError: it has an address that not everybody can reach.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, proto=6)
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        if not addresses or not all(map(self._allowed, addresses)):
            raise InputError("The link leads into a private network; it is not looked at.")
        return await self._network.connect_tcp(
            addresses[0], port, timeout, local_address, socket_options
        )

    async def sleep(self, seconds: float) -> None:
        """Wait; see `httpcore.AsyncNetworkBackend`."""
        await self._network.sleep(seconds)


class PublicWeb:
    """Reads the beginning of web pages.

    Args:
        network: what connects.
        any_port: whether other ports than those of the web may be asked.
    """

    def __init__(self, network: GuardedNetwork | None = None, *, any_port: bool = False) -> None:
        self._network = network or GuardedNetwork()
        self._any_port = any_port

    async def head(self, url: str) -> str:
        """Give the first 256 kB of a page as text.

        Raises:
            InputError: it is no page of the public web, too slow, or no HTML.
        """
        try:
            async with asyncio.timeout(SECONDS):
                async with httpcore.AsyncConnectionPool(
                    ssl_context=_certificates(), network_backend=self._network
                ) as pool:
                    return await self._follow(pool, url)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise InputError(f"The link's page cannot be read ({type(error).__name__}).") from error
        except (OSError, ValueError) as error:
            raise InputError(f"The link's page cannot be read ({type(error).__name__}).") from error

    async def _follow(self, pool: httpcore.AsyncConnectionPool, url: str) -> str:
        for _ in range(MOST_REDIRECTS + 1):
            self._check(url)
            headers = [(b"user-agent", _AGENT), (b"accept", b"text/html")]
            async with pool.stream("GET", url, headers=headers) as answer:
                said = {name.lower(): value for name, value in answer.headers}
                if answer.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, said.get(b"location", b"").decode())
                    continue
                if answer.status != 200 or b"html" not in said.get(b"content-type", b""):
                    raise InputError("The link leads to no page.")
                return await _beginning(answer)
        raise InputError("The link leads from page to page without end.")

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        usual = parts.port in (None, _PORTS.get(parts.scheme)) or self._any_port
        if parts.scheme not in _PORTS or not parts.hostname or parts.username or not usual:
            raise InputError("The link is no address of the public web.")


@cache
def _certificates() -> ssl.SSLContext:
    """Read whom this machine trusts, once: it takes tens of milliseconds."""
    return ssl.create_default_context()


async def _beginning(answer: httpcore.Response) -> str:
    found = b""
    async for piece in answer.aiter_stream():
        found += piece
        if len(found) >= LARGEST:
            break
    return found[:LARGEST].decode("utf-8", errors="replace")
