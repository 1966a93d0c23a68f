"""Answers TGI's generate requests: checks them, runs the engine, words the reply."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from chatkit.engine import Usage
from chatkit.errors import ChatkitError, Unsupported
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from serve.wire.events import event
from serve.wire.metrics import Times
from serve.wire.refusals import Incomplete, Refusal, refused
from serve.wire.service import WireService
from serve.wire.tgi_replies import Shapes, headers_of, prefill_of, text_of
from serve.wire.tgi_requests import (
    GenerateRequest,
    check_best_of,
    check_inputs,
    check_parameters,
    check_streaming,
    sampling_of,
)
from serve.wire.writing import Written

FAILURES = (Refusal, Incomplete, ChatkitError)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer: the JSON body, and the headers."""

    body: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Job:
    """A request that was found valid."""

    prompt: Prompt
    sampling: Sampling
    stop: tuple[str, ...]
    adapter: str | None
    seed: int | None
    asked: float
    valid: float


class TgiAnswers:
    """Answers generate requests.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: WireService) -> None:
        self._service = service
        self.shapes = Shapes(service.writer.tokenizer, service.writer.special)

    async def whole(self, request: GenerateRequest, *, full_text: bool) -> Reply:
        """Answer at once.

        Args:
            request: what is asked.
            full_text: whether the prompt stands before the answer when nothing else is said.

        Raises:
            Refusal: a rule is broken, or too many requests are there; else as `Writer.write`.
        """
        asked, service, parameters = time.monotonic(), self._service, request.parameters
        service.metrics.asked()
        many = check_best_of(parameters, service.options)
        with service.permits.take():
            job = self._job(request, asked)
            prefill = await self._prefill(job) if parameters.decoder_input_details else []
            answers = [await self._answer(job, number) for number in range(many)]
            best, *others = sorted(answers, key=_goodness, reverse=True)
            usage = best[-1].usage
            assert usage is not None
            times = self._finished(job, usage)
            body: dict[str, Any] = {
                "generated_text": self._text(request, best, full_text),
            }
            if parameters.details or parameters.decoder_input_details:
                body["details"] = self._details(request, job, best, prefill)
                if others:
                    body["details"]["best_of_sequences"] = [
                        {
                            "generated_text": self._text(request, other, full_text),
                            **self._details(request, job, other, prefill),
                        }
                        for other in others
                    ]
            read, written = len(job.prompt.ids), len(best)
            return Reply(body, headers_of(times, len(request.inputs), read, written))

    async def events(
        self, request: GenerateRequest, *, full_text: bool
    ) -> AsyncGenerator[bytes, None]:
        """Answer token by token; what goes wrong is the last event.

        Args: as `whole`.
        """
        service = self._service
        ended = False
        try:
            async with aclosing(self._events(request, full_text)) as events:
                async for one in events:
                    yield one
            ended = True
        except Exception as error:
            ended = True
            said = refused(error, streaming=True)
            service.failed(said)
            yield event(said.body)
        finally:
            if not ended:
                service.dropped()

    async def _events(
        self, request: GenerateRequest, full_text: bool
    ) -> AsyncGenerator[bytes, None]:
        asked, service, parameters = time.monotonic(), self._service, request.parameters
        service.metrics.asked()
        with service.permits.take():
            check_streaming(parameters)
            job = self._job(request, asked)
            texts: list[str] = []
            top, count = bool(parameters.top_n_tokens), 0
            writing = service.writer.write(job.prompt, job.sampling, job.stop, job.adapter)
            async with aclosing(writing) as tokens:
                async for written in tokens:
                    count += 1
                    if not written.special:
                        texts.append(written.text)
                    final = None
                    if written.usage:
                        before = request.inputs if self._echoes(request, full_text) else ""
                        final = self._final(request, job, written, before + "".join(texts), count)
                        self._finished(job, written.usage)
                    yield event(self.shapes.event(count, written, top, final))

    def _job(self, request: GenerateRequest, asked: float) -> _Job:
        service, parameters = self._service, request.parameters
        check_parameters(parameters, service.options)
        check_inputs(request.inputs, parameters, service.options)
        adapter = service.adapter(parameters.adapter_id)
        prompt = service.raw_prompt(request.inputs, parameters.truncate)
        longest = service.longest_answer(prompt, parameters.max_new_tokens)
        vocabulary = service.writer.tokenizer.vocabulary_size
        sampling = sampling_of(parameters, service.options, longest, vocabulary)
        draws = parameters.draws
        seed = parameters.seed if parameters.seed is not None else sampling.seed
        stop = tuple(text for text in parameters.stop if text)
        return _Job(
            prompt, sampling, stop, adapter, seed if draws else None, asked, time.monotonic()
        )

    async def _answer(self, job: _Job, number: int) -> list[Written]:
        """Draw one answer; each of several has a seed of its own."""
        seed = ((job.sampling.seed or 0) + number) % 2**32
        sampling = job.sampling.model_copy(update={"seed": seed})
        writing = self._service.writer.write(job.prompt, sampling, job.stop, job.adapter)
        async with aclosing(writing) as tokens:
            return [written async for written in tokens]

    async def _prefill(self, job: _Job) -> list[dict[str, Any]]:
        """Tell the prompt's tokens; without probabilities where the engine has none."""
        tokens = self._service.writer.tokenizer.encode_raw(job.prompt.text)
        try:
            logprobs = await self._service.engine.prompt_logprobs(job.prompt)
        except Unsupported:
            logprobs = [None] * len(tokens)
        return prefill_of(job.prompt.text, tokens, logprobs)

    def _details(
        self,
        request: GenerateRequest,
        job: _Job,
        answer: Sequence[Written],
        prefill: list[dict[str, Any]],
    ) -> dict[str, Any]:
        top = bool(request.parameters.top_n_tokens)
        return self.shapes.details(answer, prefill, job.seed, top)

    def _final(
        self, request: GenerateRequest, job: _Job, last: Written, text: str, count: int
    ) -> dict[str, Any]:
        details = {
            "finish_reason": last.ending,
            "generated_tokens": count,
            "seed": job.seed,
            "input_length": len(job.prompt.ids),
        }
        return {
            "generated_text": text,
            "details": details if request.parameters.details else None,
        }

    def _text(self, request: GenerateRequest, answer: Sequence[Written], full_text: bool) -> str:
        before = request.inputs if self._echoes(request, full_text) else ""
        return before + text_of(answer)

    def _echoes(self, request: GenerateRequest, full_text: bool) -> bool:
        asked = request.parameters.return_full_text
        return full_text if asked is None else asked

    def _finished(self, job: _Job, usage: Usage) -> Times:
        times = Times(job.valid - job.asked, usage.queued_seconds, time.monotonic() - job.asked)
        self._service.metrics.answered(usage, times, job.sampling.max_tokens or 0)
        return times


def _goodness(answer: Sequence[Written]) -> float:
    """Tell how likely an answer is, for each of its tokens."""
    return fmean(written.logprob or 0.0 for written in answer)
