"""Answers chat requests: the conversation, its tools, and how the reply is framed."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chatkit.engine import Delta
from chatkit.errors import ChatkitError
from serve.wire.bodies import typed
from serve.wire.chat_prompts import chat_prompt, messages_of
from serve.wire.chat_requests import ChatRequest, chat_sampling
from serve.wire.chat_tools import Toolbox, toolbox
from serve.wire.events import EventStream
from serve.wire.jobs import Job, jobs_of
from serve.wire.listening import answered
from serve.wire.openai_answers import Answer, Frame, OpenaiAnswers, once
from serve.wire.openai_replies import ChatFrames, chat_logprobs, chat_reply
from serve.wire.refusals import Refusal, refused
from serve.wire.service import WireService


class ChatAnswers:
    """Answers chat requests.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: WireService) -> None:
        self._service = service
        self._answers = OpenaiAnswers(service)

    async def answer(self, request: Request, body: Any) -> Response:
        """Answer a conversation.

        Args:
            request: where it came from.
            body: its JSON.

        Raises:
            Refusal: a rule is broken, too many requests are there, or the engine failed.
        """
        asked_at, service = time.monotonic(), self._service
        asked = typed(ChatRequest, body)
        service.metrics.asked()
        try:
            tools = toolbox(asked)
            jobs = self._jobs(asked, tools, asked_at)
            service.permits.check()
        except (ChatkitError, Refusal) as error:
            said = refused(error)
            service.failed(said)
            raise Refusal(said) from error
        model = service.shown(asked.model)
        if asked.stream:
            return self._stream(asked, tools, jobs, model)
        answers = await answered(service, request, self._answers.whole(jobs))
        choices = [
            self._choice(asked, tools, index, answer) for index, answer in enumerate(answers)
        ]
        usages = once([answer.usage for answer in answers])
        return JSONResponse(chat_reply(model, choices, usages))

    def _jobs(self, asked: ChatRequest, tools: Toolbox | None, asked_at: float) -> list[Job]:
        service = self._service
        messages = messages_of(asked.messages)
        if tools:
            messages = tools.introduce(messages)
        prompt = chat_prompt(service.engine.template, messages)
        prompt = replace(prompt, user=asked.user or "")
        sampling = chat_sampling(asked, service.options, tools.schema if tools else None)
        return jobs_of(service, [prompt], asked.n, sampling, asked.model, asked_at)

    def _stream(
        self, asked: ChatRequest, tools: Toolbox | None, jobs: Sequence[Job], model: str
    ) -> Response:
        dialect = asked.from_text_generation
        frames = ChatFrames(model, self._service.writer.tokenizer, dialect=dialect)
        frame = _tool_framing(frames, tools, len(jobs)) if tools else _framing(frames)
        usage = frames.usage if asked.includes_usage else None
        events = self._answers.events(jobs, frame, usage, done=not dialect)
        return EventStream(events, self._service.options.keep_alive_seconds)

    def _choice(
        self, asked: ChatRequest, tools: Toolbox | None, index: int, answer: Answer
    ) -> dict[str, Any]:
        said: dict[str, Any] = {"content": answer.text}
        if tools:
            words, call = tools.read(answer.text)
            said = {"tool_calls": [call]} if call else {"content": words}
        told = chat_logprobs(answer.tokens, self._service.writer.tokenizer)
        return {
            "index": index,
            "message": {"role": "assistant", **said},
            "logprobs": told if asked.logprobs else None,
            "finish_reason": answer.finish,
        }


def _framing(frames: ChatFrames) -> Frame:
    def frame(job: Job, delta: Delta) -> bytes:
        if delta.finish:
            text = frames.text(job.index, delta.text) if delta.text else b""
            return text + frames.end(job.index, delta.finish, delta.tokens)
        if delta.tokens:
            return frames.told(job.index, delta.text, delta.tokens)
        return frames.text(job.index, delta.text) if delta.text else b""

    return frame


def _tool_framing(frames: ChatFrames, tools: Toolbox, many: int) -> Frame:
    """Hold an answer back until it is known which call it is: half a call is of no use."""
    texts: list[list[str]] = [[] for _ in range(many)]

    def frame(job: Job, delta: Delta) -> bytes:
        texts[job.index].append(delta.text)
        if not delta.finish:
            return b""
        words, call = tools.read("".join(texts[job.index]))
        said = frames.call(job.index, call) if call else frames.text(job.index, words)
        return said + frames.end(job.index, delta.finish)

    return frame
