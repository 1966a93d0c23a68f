"""Answers completion requests."""

import time
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chatkit.engine import Delta
from chatkit.errors import ChatkitError
from chatkit.sampling import Sampling
from serve.wire.bodies import typed
from serve.wire.chat_requests import checked_grammar, drawn_sampling
from serve.wire.completion_requests import CompletionRequest
from serve.wire.events import EventStream
from serve.wire.jobs import Job, jobs_of
from serve.wire.listening import answered
from serve.wire.openai_answers import OpenaiAnswers
from serve.wire.openai_replies import (
    CompletionFrames,
    completion_choice,
    completion_head,
    usage_of,
)
from serve.wire.refusals import Refusal, refused, validation
from serve.wire.service import WireService

GRAMMARS = {"json": "json_schema", "regex": "regex"}


class CompletionAnswers:
    """Answers completion requests.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: WireService) -> None:
        self._service = service
        self._answers = OpenaiAnswers(service)

    async def answer(self, request: Request, body: Any) -> Response:
        """Go on with texts.

        Args:
            request: where they came from.
            body: its JSON.

        Raises:
            Refusal: a rule is broken, too many requests are there, or the engine failed.
        """
        asked_at, service = time.monotonic(), self._service
        asked = typed(CompletionRequest, body)
        service.metrics.asked()
        try:
            sampling = self._sampling(asked)
            prompts = asked.prompts(service)
            jobs = jobs_of(service, prompts, asked.n, sampling, asked.model, asked_at)
            service.permits.check()
        except (ChatkitError, Refusal) as error:
            said = refused(error)
            service.failed(said)
            raise Refusal(said) from error
        model = service.shown(asked.model)
        if asked.stream:
            return self._stream(asked, jobs, model)
        answers = await answered(service, request, self._answers.whole(jobs))
        tokenizer = service.writer.tokenizer
        choices = [
            completion_choice(
                index,
                answer.text,
                answer.finish,
                answer.tokens if asked.logprobs is not None else None,
                [token.id for token in answer.tokens] if asked.return_token_ids else None,
                tokenizer,
            )
            for index, answer in enumerate(answers)
        ]
        usage = usage_of([answer.usage for answer in answers])
        return JSONResponse({**completion_head(model), "choices": choices, "usage": usage})

    def _stream(self, asked: CompletionRequest, jobs: Sequence[Job], model: str) -> Response:
        frames = CompletionFrames(model, self._service.writer.tokenizer)

        def frame(job: Job, delta: Delta) -> bytes:
            if not (delta.text or delta.finish or delta.tokens):
                return b""
            told = delta.tokens if asked.logprobs is not None else None
            ids = [token.id for token in delta.tokens] if asked.return_token_ids else None
            return frames.text(job.index, delta.text, delta.finish, told, ids)

        usage = frames.usage if asked.includes_usage else None
        events = self._answers.events(jobs, frame, usage)
        return EventStream(events, self._service.options.keep_alive_seconds)

    def _sampling(self, asked: CompletionRequest) -> Sampling:
        options, tokenizer = self._service.options, self._service.writer.tokenizer
        if (asked.logprobs or 0) > options.max_top_n_tokens:
            raise Refusal(
                validation(
                    f"`top_n_tokens` must be >= 0 and <= {options.max_top_n_tokens}. "
                    f"Given: {asked.logprobs}"
                )
            )
        drawn = drawn_sampling(asked, options, asked.max_tokens or None)
        every = tokenizer.vocabulary_size if asked.top_k in (-1, 0) else asked.top_k
        told = asked.logprobs is not None or asked.return_token_ids
        return Sampling(
            **{
                **drawn.model_dump(),
                "repetition_penalty": asked.repetition_penalty or drawn.repetition_penalty,
                "top_k": every,
                "min_p": asked.min_p,
                "logprobs": (asked.logprobs or 0) if told else None,
                **self._bound(asked),
            }
        )

    def _bound(self, asked: CompletionRequest) -> dict[str, Any]:
        """Take vLLM's `structured_outputs`, which completions have in place of a format."""
        if not asked.structured_outputs:
            return {}
        if not self._service.options.grammar:
            raise Refusal(validation("grammar is not supported"))
        (kind, value), *more = asked.structured_outputs.items()
        if more or kind not in GRAMMARS:
            raise Refusal(validation("`structured_outputs` takes one of json and regex"))
        return checked_grammar({GRAMMARS[kind]: value})
