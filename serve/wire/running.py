"""Runs the application until it is told to end, and lets running answers finish."""

import asyncio
import resource
import signal
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chatkit.errors import InputError
from serve.wire.app import build_app
from serve.wire.service import WireService

# So many connections may wait until they are taken up.
BACKLOG = 2048


def run(service: WireService, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C; then no more connections, and answers end in their time.

    Args:
        service: the engine with its limits.
        host: the address to listen on.
        port: the port; 0 takes a free one.

    Raises:
        InputError: nothing can listen there.
    """
    _allow_many_connections()
    listener = listen(host, port)
    print(f"Serving {service.options.model_id} at {_address(listener)}", flush=True)
    # What uvicorn was ended with it raises again, and an end in good order is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server(service).run([listener])


def server(service: WireService) -> uvicorn.Server:
    """Make the server, ready to be run with a listening socket."""
    return uvicorn.Server(
        uvicorn.Config(
            build_app(service),
            http=_patient(service.options.patience_seconds),
            timeout_graceful_shutdown=service.options.drain_seconds,
            timeout_keep_alive=round(service.options.patience_seconds),
            access_log=False,
            log_level="warning",
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Args:
        host: the address.
        port: the port; 0 takes a free one.

    Raises:
        InputError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(
            f"Nothing can listen on {host} port {port} ({error.strerror}); choose another --port."
        ) from None
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _allow_many_connections() -> None:
    """Take as many open files as the system gives; each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _patient(seconds: float) -> type[HttpToolsProtocol]:
    """Make the protocol that closes connections whose head does not come in time."""

    class Patient(HttpToolsProtocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._late = self.loop.call_later(seconds, transport.close)

        def data_received(self, data: bytes) -> None:
            if self._late is None:
                self._late = self.loop.call_later(seconds, self.transport.close)
            super().data_received(data)

        def on_headers_complete(self) -> None:
            self._in_time()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._in_time()
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._in_time()
            super().connection_lost(exc)

        def _in_time(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Patient
