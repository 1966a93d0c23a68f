"""The `openai:` engine: a server that speaks OpenAI's wire, such as vLLM, SGLang or Ollama."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from chatkit.engine import Delta, Finish, Usage, answer_room
from chatkit.engines.remote.estimating import control_in
from chatkit.engines.remote.openai_facts import (
    OpenaiFacts,
    chat_format,
    completion_format,
    drawn_options,
)
from chatkit.engines.remote.openai_tokens import written_tokens
from chatkit.engines.remote.wire import Wire
from chatkit.errors import Unsupported
from chatkit.messages import Message
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate

# A window that nobody tells.
UNKNOWN_CONTEXT = 8192


class OpenaiEngine:
    """Asks a server: with token ids of our template where it takes them, else with messages.

    Args:
        name: the model's name.
        wire: the server.
        facts: what it is.
        template: the model's chat template; where the server keeps its own, one that estimates.
        defaults: the sampling for what a caller leaves unset.
    """

    def __init__(
        self,
        name: str,
        wire: Wire,
        facts: OpenaiFacts,
        template: ChatTemplate,
        defaults: Sampling,
    ) -> None:
        self.name = name
        self.template = template
        self.context = facts.context or UNKNOWN_CONTEXT
        self.defaults = defaults
        self.resident_bytes = 0
        self._wire = wire
        self._facts = facts

    @property
    def adapters(self) -> tuple[str, ...]:
        """The other models that the server names; an adapter is one of them."""
        return self._facts.adapters or ()

    @property
    def waiting(self) -> int:
        """Nothing waits here: the server has its own queue."""
        return 0

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer a prompt piece by piece; see `Engine.stream`."""
        if self._facts.adapters is not None and adapter not in (None, *self._facts.adapters):
            raise Unsupported(f"The server of {self.name} has no adapter {adapter!r}.")
        asked, room = time.monotonic(), answer_room(prompt, sampling, self.context)
        drawn = sampling.over(self.defaults)
        shared = {
            "model": adapter or self._facts.model,
            "max_tokens": room,
            "stream": True,
            "stream_options": {"include_usage": True},
            **drawn_options(self._facts, drawn, sampling),
        }
        raw = not prompt.messages
        if self._facts.takes_ids or raw:
            path, body = "/v1/completions", self._completion(prompt, drawn)
        else:
            path, body = "/v1/chat/completions", self._chat(prompt.messages, drawn)
        async with aclosing(self._wire.events(path, {**shared, **body})) as events:
            async for delta in self._deltas(events, len(prompt.ids), room, drawn, asked):
                yield delta

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[float]:
        """Give the log-likelihood of each continuation; see `Engine.score`."""
        scores = []
        for continuation in continuations:
            added = self.template.tokenizer.encode(continuation, begins=not prompt.ids)
            ids = (*prompt.ids, *(token.id for token in added))
            logprobs = await self.prompt_logprobs(Prompt(ids, "", (), ""))
            scores.append(sum(one or 0.0 for one in logprobs[len(prompt.ids) :]))
        return scores

    async def prompt_logprobs(self, prompt: Prompt) -> list[float | None]:
        """Give the log-probability of each token of the prompt; see `Engine.prompt_logprobs`."""
        if self._facts.kind != "vllm" or not self._facts.takes_ids:
            raise Unsupported(
                f"{self.name} gives no probabilities of given text; use vLLM, or the model with "
                "@transformers."
            )
        body = {
            "model": self._facts.model,
            "prompt": list(prompt.ids),
            "max_tokens": 1,
            "prompt_logprobs": 0,
        }
        reply = await self._wire.post("/v1/completions", body)
        try:
            told = reply["choices"][0]["prompt_logprobs"]
            return [
                None if one is None else float(one[str(id)]["logprob"])
                for id, one in zip(prompt.ids, told, strict=True)
            ]
        except (KeyError, TypeError, ValueError, IndexError):
            raise self._wire.failed("answered without the prompt's probabilities") from None

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Give a vector of length 1 for each text; see `Engine.embed`."""
        reply = await self._wire.post(
            "/v1/embeddings",
            {"model": self._facts.model, "input": list(texts), "encoding_format": "float"},
        )
        if reply is None:
            raise Unsupported(f"The server of {self.name} gives no vectors.")
        try:
            vectors = [[float(x) for x in one["embedding"]] for one in reply["data"]]
        except (KeyError, TypeError, ValueError):
            raise self._wire.failed("answered without vectors") from None
        if len(vectors) != len(texts):
            raise self._wire.failed(f"gave {len(vectors)} vectors for {len(texts)} texts")
        return [_of_length_1(vector) for vector in vectors]

    async def health(self) -> None:
        """Return when the server can work; see `Engine.health`."""
        await self._wire.reach("/v1/models")

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.sessions.close()

    def _completion(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "prompt": list(prompt.ids) if self._facts.takes_ids else prompt.text,
            **completion_format(self._facts, sampling),
        }
        if sampling.logprobs is not None:
            body["logprobs"] = max(1, sampling.logprobs)
            if self._facts.kind in ("chatkit", "vllm"):
                body["return_token_ids"] = True
        if self._facts.kind == "vllm":
            # Our template wrote the begin token where there is one.
            body["add_special_tokens"] = False
        return body

    def _chat(self, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        for message in messages:
            if found := control_in(message.content):
                raise Unsupported(
                    f"A message holds {found}, which the server of {self.name} could take for a "
                    "control token; take it out, or use the model on this machine or on vLLM."
                )
        body: dict[str, Any] = {
            "messages": [_as_body(message) for message in messages],
            **chat_format(self._facts, sampling),
        }
        if sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
        return body

    async def _deltas(
        self,
        events: AsyncGenerator[Any, None],
        read: int,
        room: int,
        sampling: Sampling,
        asked: float,
    ) -> AsyncGenerator[Delta, None]:
        first, count, finish = 0.0, 0, ""
        usage: Mapping[str, Any] | None = None
        async for event in events:
            usage = _part(event, "usage") or usage
            choice = _first_choice(event)
            if choice is None:
                continue
            delta = _part(choice, "delta") or choice
            text = _text(delta, "content") or _text(choice, "text")
            thought = _text(delta, "reasoning_content") or _text(delta, "reasoning")
            tokens = written_tokens(choice, self.template.tokenizer, sampling.logprobs)
            if text or thought:
                count += 1
                first = first or time.monotonic() - asked
                if count > room + 1:
                    raise self._wire.failed("writes more than it was asked for")
            if text or thought or tokens:
                yield Delta(text, tokens=tokens, reasoning=thought)
            finish = str(choice.get("finish_reason") or finish)
        if not finish:
            raise self._wire.failed("ended an answer before it was whole")
        ended: Finish = "length" if finish == "length" else "stop"
        total = time.monotonic() - asked
        yield Delta("", ended, _usage(usage, read, count, first or total, total))


def _usage(
    told: Mapping[str, Any] | None, read: int, count: int, first: float, total: float
) -> Usage:
    """Take the server's counts; where it tells none, the events that it sent."""
    counts = told or {}
    details = _part(counts, "prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=_count(counts.get("prompt_tokens"), read),
        cached_tokens=_count(details.get("cached_tokens"), 0),
        completion_tokens=_count(counts.get("completion_tokens"), count),
        queued_seconds=0.0,
        first_token_seconds=first,
        total_seconds=total,
    )


def _count(told: Any, otherwise: int) -> int:
    return told if isinstance(told, int) and told >= 0 else otherwise


def _first_choice(event: Any) -> dict[str, Any] | None:
    choices = event.get("choices") if isinstance(event, dict) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return None


def _part(value: Any, key: str) -> dict[str, Any] | None:
    part = value.get(key) if isinstance(value, dict) else None
    return part if isinstance(part, dict) else None


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    return text if isinstance(text, str) else ""


def _as_body(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name:
        body["name"] = message.name
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return body


def _of_length_1(vector: list[float]) -> list[float]:
    length = sum(x * x for x in vector) ** 0.5
    return [x / length for x in vector] if length else vector
