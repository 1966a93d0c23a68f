"""The application: all routes, and what a caller sees when there is none."""

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import chatkit
from serve.wire.openai_routes import openai_routes
from serve.wire.refusals import Refusal
from serve.wire.service import WireService
from serve.wire.tgi_routes import tgi_routes


def build_app(service: WireService) -> FastAPI:
    """Put an engine behind all routes.

    Args:
        service: the engine with its limits.
    """
    app = FastAPI(
        title="chatkit",
        version=chatkit.__version__,
        openapi_url="/api-doc/openapi.json",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(tgi_routes(service))
    app.include_router(openai_routes(service))
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _empty)
    return app


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.refused.response()


async def _empty(_: Request, error: Exception) -> Response:
    """Answer unknown routes and wrong methods as TGI does, without a body."""
    assert isinstance(error, HTTPException)
    return Response(status_code=error.status_code, headers=error.headers)
