"""The routes of TGI."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

import chatkit
from chatkit.errors import ChatkitError
from serve.wire.bodies import check_key, read_json, typed
from serve.wire.events import EventStream
from serve.wire.listening import answered
from serve.wire.service import WireService
from serve.wire.tgi_answers import Reply, TgiAnswers
from serve.wire.tgi_replies import stream_headers, tokens_of
from serve.wire.tgi_requests import CompatRequest, GenerateRequest

UNHEALTHY = {"error": "unhealthy", "error_type": "healthcheck"}


def tgi_routes(service: WireService) -> APIRouter:
    """Give TGI's own routes."""
    router, routes = APIRouter(), TgiRoutes(service)
    router.post("/generate")(routes.generate)
    router.post("/generate_stream")(routes.generate_stream)
    router.post("/")(routes.compat)
    router.post("/tokenize")(routes.tokenize)
    router.get("/info")(routes.info)
    router.get("/metrics")(routes.metrics)
    for path in ("/", "/health", "/ping"):
        router.get(path)(routes.health)
    return router


class TgiRoutes:
    """Handles requests to TGI's own routes.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: WireService) -> None:
        self._service = service
        self._answers = TgiAnswers(service)

    async def generate(self, request: Request) -> Response:
        """Answer with one object."""
        asked = typed(GenerateRequest, await self._body(request))
        reply = await self._whole(request, asked, full_text=False)
        return JSONResponse(reply.body, headers=reply.headers)

    async def generate_stream(self, request: Request) -> Response:
        """Answer token by token."""
        asked = typed(GenerateRequest, await self._body(request))
        return self._stream(asked, full_text=False)

    async def compat(self, request: Request) -> Response:
        """Answer with a list of one, or token by token."""
        return await self.answer_compat(request, await self._body(request))

    async def answer_compat(self, request: Request, body: Any) -> Response:
        """Answer what `POST /` takes.

        Args:
            request: where it came from.
            body: its JSON.
        """
        asked = typed(CompatRequest, body)
        if asked.stream:
            return self._stream(asked, full_text=True)
        reply = await self._whole(request, asked, full_text=True)
        return JSONResponse([reply.body], headers=reply.headers)

    async def tokenize(self, request: Request) -> Response:
        """Tell a text's tokens."""
        asked = typed(GenerateRequest, await self._body(request))
        tokens = self._service.writer.tokenizer.encode_raw(asked.inputs)
        return JSONResponse(tokens_of(asked.inputs, tokens))

    async def info(self) -> Response:
        """Tell what this server has and allows."""
        options = self._service.options
        return JSONResponse(
            {
                "model_id": options.model_id,
                "model_sha": None,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": options.max_concurrent_requests,
                "max_best_of": options.max_best_of,
                "max_stop_sequences": options.max_stop_sequences,
                "max_input_tokens": options.max_input_tokens,
                "max_total_tokens": options.max_total_tokens,
                "validation_workers": 1,
                "max_client_batch_size": options.max_client_batch_size,
                "router": "chatkit",
                "version": chatkit.__version__,
                "sha": None,
                "docker_label": None,
                "chatkit_template": str(self._service.engine.template.identity),
                "chatkit_adapters": list(self._service.engine.adapters),
            }
        )

    async def health(self) -> Response:
        """Tell whether the engine can work."""
        try:
            await self._service.engine.health()
        except ChatkitError:
            return JSONResponse(UNHEALTHY, 503)
        return Response()

    async def metrics(self) -> Response:
        """Tell what was counted."""
        return PlainTextResponse(self._service.metrics_text)

    async def _body(self, request: Request) -> Any:
        check_key(request, self._service.options.api_key)
        return await read_json(request, self._service.options)

    async def _whole(self, request: Request, asked: GenerateRequest, *, full_text: bool) -> Reply:
        return await answered(
            self._service, request, self._answers.whole(asked, full_text=full_text)
        )

    def _stream(self, asked: GenerateRequest, *, full_text: bool) -> Response:
        events = self._answers.events(asked, full_text=full_text)
        headers = stream_headers(len(asked.inputs))
        return EventStream(events, self._service.options.keep_alive_seconds, headers)
