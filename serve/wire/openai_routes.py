"""The routes of OpenAI's API."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chatkit.errors import ChatkitError
from serve.wire.bodies import check_key, read_json, typed
from serve.wire.chat_answers import ChatAnswers
from serve.wire.chat_prompts import chat_tokens, messages_of
from serve.wire.chat_requests import ChatRequest
from serve.wire.completion_answers import CompletionAnswers
from serve.wire.refusals import Refusal, refused, validation
from serve.wire.service import WireService
from serve.wire.tgi_replies import tokens_of
from serve.wire.tgi_routes import TgiRoutes


class EmbeddingRequest(BaseModel):
    """Texts that are to become vectors."""

    model_config = ConfigDict(extra="ignore")

    input: str | list[str]
    model: str | None = None
    encoding_format: str | None = None


def openai_routes(service: WireService) -> APIRouter:
    """Give OpenAI's routes, and those of TGI that lead to them."""
    router, routes = APIRouter(), OpenaiRoutes(service)
    router.get("/v1/models")(routes.models)
    router.post("/v1/chat/completions")(routes.chat)
    router.post("/v1/completions")(routes.completions)
    router.post("/v1/embeddings")(routes.embeddings)
    router.post("/chat_tokenize")(routes.chat_tokenize)
    router.post("/invocations")(routes.invocations)
    return router


class OpenaiRoutes:
    """Handles requests to OpenAI's routes.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: WireService) -> None:
        self._service = service
        self._chat = ChatAnswers(service)
        self._completions = CompletionAnswers(service)
        self._tgi = TgiRoutes(service)

    async def models(self) -> Response:
        """Tell the model and its adapters."""
        service = self._service
        names = (service.options.model_id, *service.engine.adapters)
        shared = {
            "object": "model",
            "created": 0,
            "owned_by": service.options.model_id,
            "max_model_len": service.options.max_total_tokens,
            "chatkit_template": str(service.engine.template.identity),
        }
        return JSONResponse({"object": "list", "data": [{"id": name, **shared} for name in names]})

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        return await self._chat.answer(request, await self._body(request))

    async def completions(self, request: Request) -> Response:
        """Go on with texts."""
        return await self._completions.answer(request, await self._body(request))

    async def invocations(self, request: Request) -> Response:
        """Answer whichever of three bodies it is, as SageMaker sends them."""
        body = await self._body(request)
        keys = body.keys() if isinstance(body, dict) else ()
        if "inputs" in keys or not {"messages", "prompt"} & set(keys):
            return await self._tgi.answer_compat(request, body)
        if "messages" in keys:
            return await self._chat.answer(request, body)
        return await self._completions.answer(request, body)

    async def embeddings(self, request: Request) -> Response:
        """Give a vector for each text."""
        asked = typed(EmbeddingRequest, await self._body(request))
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if asked.encoding_format not in (None, "float"):
            raise Refusal(validation("`encoding_format` must be float"))
        service = self._service
        service.adapter(asked.model)
        try:
            with service.permits.take():
                vectors = await service.engine.embed(texts)
        except (ChatkitError, Refusal) as error:
            said = refused(error)
            service.failed(said)
            raise Refusal(said) from error
        read = sum(service.writer.tokenizer.count(text) for text in texts)
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": read, "total_tokens": read}
        return JSONResponse(
            {"object": "list", "data": data, "model": service.shown(asked.model), "usage": usage}
        )

    async def chat_tokenize(self, request: Request) -> Response:
        """Tell a conversation's text and tokens."""
        if not self._service.options.tgi_compat:
            check_key(request, self._service.options.api_key)
        asked = typed(ChatRequest, await read_json(request, self._service.options))
        template = self._service.engine.template
        try:
            text, tokens = chat_tokens(template, messages_of(asked.messages))
        except ChatkitError as error:
            raise Refusal(refused(error)) from error
        return JSONResponse({"tokenize_response": tokens_of(text, tokens), "templated_text": text})

    async def _body(self, request: Request) -> Any:
        check_key(request, self._service.options.api_key)
        return await read_json(request, self._service.options)
