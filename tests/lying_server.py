"""A server that answers whatever a test writes, on the loopback address."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Lying:
    """A running server.

    Args:
        url: where it is.
        answers: what it does on each path; a test may change it while it runs.
        asked: the bodies that came, by path.
    """

    url: str
    answers: dict[str, Handler]
    asked: dict[str, list[object]] = field(default_factory=dict)


@contextmanager
def lying_server(
    answers: dict[str, Handler], certificate: ssl.SSLContext | None = None
) -> Iterator[Lying]:
    """Run a server in a thread.

    Args:
        answers: what it does on each path.
        certificate: speaks TLS with it.
    """
    loop = asyncio.new_event_loop()
    lying = Lying("", answers)

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.can_read_body:
            lying.asked.setdefault(request.path, []).append(await request.json())
        answer = lying.answers.get(request.path)
        return await answer(request) if answer else web.Response(status=404)

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate)
        await site.start()
        port = runner.addresses[0][1]
        lying.url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
        return runner

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield lying
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def json_of(value: object, status: int = 200, **headers: str) -> Handler:
    """Answer JSON."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(value, status=status, headers=headers)

    return answer


def text_of(text: str, kind: str = "text/html", status: int = 200) -> Handler:
    """Answer a text."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=kind, status=status)

    return answer


def stream_of(*events: str, pause: float = 0.0, forever: bool = False) -> Handler:
    """Stream events as they are, again and again if asked to."""

    async def answer(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        while True:
            for one in events:
                await reply.write(f"data: {one}\n\n".encode())
                await asyncio.sleep(pause)
            if not forever:
                return reply

    return answer


def cut_after(*events: str) -> Handler:
    """Stream events, and break the connection in the middle of the next one."""

    async def answer(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        for one in events:
            await reply.write(f"data: {one}\n\n".encode())
        await reply.write(b'data: {"half')
        assert request.transport
        request.transport.close()
        return reply

    return answer


def in_turn(*handlers: Handler) -> Handler:
    """Answer with the first, then the second, and so on; the last one stays."""
    left = list(handlers)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (left.pop(0) if len(left) > 1 else left[0])(request)

    return answer
