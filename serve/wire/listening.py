"""Work for a client that may leave before it is done."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from serve.wire.refusals import Refusal, Refused, refused
from serve.wire.service import WireService

Result = TypeVar("Result")


class ClientGone(Exception):
    """Nobody listens any more."""


async def answered(
    service: WireService, request: Request, work: Coroutine[Any, Any, Result]
) -> Result:
    """Finish an answer unless its client leaves; count what goes wrong.

    Raises:
        Refusal: it was not answered.
    """
    try:
        return await while_listening(request, work)
    except ClientGone:
        service.dropped()
        # Nobody reads this reply.
        raise Refusal(Refused(499, "", "")) from None
    except Exception as error:
        said = refused(error)
        service.failed(said)
        raise Refusal(said) from error


async def while_listening(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do some work, unless the client leaves before it is done.

    Raises:
        ClientGone: it left; the work was cancelled.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
