"""Ends running answers in good order when the server is stopped."""

import asyncio
import logging
from contextlib import suppress

import panel as pn
from bokeh.application.handlers.lifecycle import LifecycleHandler
from bokeh.server.contexts import BokehServerContext

from chatkit.service import close_shared_services

CLOSING_SECONDS = 10.0


class Closing(LifecycleHandler):
    """Closes the chat service of a server's event loop after that has come to rest.

    Args:
        loop: the server's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._on_server_unloaded = lambda _: self._close(loop)

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop.is_running() or loop.is_closed():
            return
        try:
            loop.run_until_complete(asyncio.wait_for(close_shared_services(), CLOSING_SECONDS))
        except Exception:
            # The server ends anyway; what was being written is then ended by the next start.
            logging.getLogger(__name__).exception("the chat service was not closed")


def close_with_server() -> None:
    """Let the server of this page close the chat service when it is stopped."""
    session = pn.state.curdoc.session_context if pn.state.curdoc else None
    context = session.server_context if session else None
    if not isinstance(context, BokehServerContext) or context.application_context is None:
        return
    application = context.application_context.application
    if not any(isinstance(handler, Closing) for handler in application.handlers):
        with suppress(RuntimeError):
            application.add(Closing(asyncio.get_running_loop()))
