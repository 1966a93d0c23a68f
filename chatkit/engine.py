"""What every engine does, whatever runs underneath."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from chatkit import telemetry
from chatkit.errors import PromptTooLong
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one answer took.

    Args:
        prompt_tokens: tokens of the prompt.
        cached_tokens: how many of them the engine still had and did not read again.
        completion_tokens: tokens of the answer, the end token included.
        queued_seconds: the wait before the engine began.
        first_token_seconds: from asking to the first text, the wait included.
        total_seconds: from asking to the end, the wait included.
        answered_by: the model that answered where it is not the one that was asked, as when all
            servers of a pool have failed; empty otherwise.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queued_seconds: float
    first_token_seconds: float
    total_seconds: float
    answered_by: str = ""

    @property
    def tokens_per_second(self) -> float:
        """The speed of writing, counted from the first text on."""
        writing = self.total_seconds - self.first_token_seconds
        return (self.completion_tokens - 1) / writing if writing > 0 else 0.0


class Chance(NamedTuple):
    """A token that could stand in a place, and its log-probability in nats."""

    id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class WrittenToken:
    """A token of an answer.

    Args:
        id: which one.
        logprob: its log-probability in nats under the model's own distribution; None where the
            engine does not tell it.
        likeliest: the likeliest tokens in its place, the best first, as many as were asked for.
    """

    id: int
    logprob: float | None
    likeliest: tuple[Chance, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer; only the last one carries `finish` and `usage`.

    Args:
        text: what was added to the answer.
        finish: why it ended: the model or a stop string ended it, or its length ran out.
        usage: counts and times of the whole answer.
        tokens: the tokens since the last delta, the end token included; empty unless
            `Sampling.logprobs` asks for them.
        reasoning: what was added to the thinking that some models do before they answer.
    """

    text: str
    finish: Finish | None = None
    usage: Usage | None = None
    tokens: tuple[WrittenToken, ...] = ()
    reasoning: str = ""


class Engine(Protocol):
    """Runs one model.

    Attributes:
        name: the model's name as users type it, with its engine.
        template: the model's chat template, with its tokenizer.
        context: the window in tokens, prompt and answer together.
        defaults: the sampling that stands for what a caller leaves unset.
        resident_bytes: an estimate of the memory that the engine holds.
        adapters: the names of the LoRA adapters that a request may choose.
    """

    name: str
    template: ChatTemplate
    context: int
    defaults: Sampling
    resident_bytes: int

    @property
    def adapters(self) -> tuple[str, ...]: ...

    @property
    def waiting(self) -> int:
        """How many requests stand in the engine's queue."""
        ...

    def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer a prompt piece by piece.

        Closing the generator stops the work within one token, also while it waits in the queue
        or reads the prompt.

        Raises:
            PromptTooLong: the prompt leaves no room for an answer.
            Unsupported: the engine cannot do what the sampling asks for, or has no such adapter.
            Overloaded: too many wait already; nothing was begun.
            EngineError: the engine failed while it worked.
        """
        ...

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[float]:
        """Give the log-likelihood of each continuation after the prompt, in nats.

        Raises:
            Unsupported: the engine gives no probabilities of given text.
        """
        ...

    async def prompt_logprobs(self, prompt: Prompt) -> list[float | None]:
        """Give the log-probability of each token of the prompt, in nats; None for the first.

        Raises:
            Unsupported: the engine gives no probabilities of given text.
        """
        ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Give a vector of length 1 for each text: the mean of its tokens' last hidden states.

        Raises:
            Unsupported: the engine gives no vectors.
        """
        ...

    async def health(self) -> None:
        """Return when the engine can work.

        Raises:
            EngineError: it cannot.
        """
        ...

    async def close(self) -> None:
        """Stop what runs and give the memory back."""
        ...


NEUTRAL = Sampling(temperature=0.7, top_p=0.95, repetition_penalty=1.0)
"""What stands for unset values when the model's publisher recommends nothing."""


def answer_room(prompt: Prompt, sampling: Sampling, context: int) -> int:
    """Tell how many tokens the answer may take.

    Args:
        prompt: what will be read.
        sampling: `max_tokens`, or None for a quarter of the window.
        context: the window in tokens.

    Raises:
        PromptTooLong: the prompt fills the window.
    """
    left = context - len(prompt.ids)
    if left < 1:
        raise PromptTooLong(
            f"The prompt has {len(prompt.ids)} tokens and the window {context}; "
            "shorten it or begin a new conversation."
        )
    return min(left, sampling.max_tokens or max(context // 4, 256))


async def complete(engine: Engine, prompt: Prompt, sampling: Sampling) -> tuple[str, Delta]:
    """Collect a whole answer: its text, and the last delta with finish and usage.

    Raises: as `Engine.stream`.
    """
    parts: list[str] = []
    last = Delta("")
    async for last in engine.stream(prompt, sampling):
        parts.append(last.text)
    return "".join(parts), last


async def observed(
    engine: Engine, prompt: Prompt, sampling: Sampling, adapter: str | None = None
) -> AsyncGenerator[Delta, None]:
    """Stream an answer while telling logs and metrics about it.

    Raises: as `Engine.stream`.
    """
    telemetry.event("answer asked", model=engine.name, prompt_tokens=len(prompt.ids))
    finished = False
    try:
        async with aclosing(engine.stream(prompt, sampling, adapter)) as stream:
            async for delta in stream:
                telemetry.queue_length(engine.name, engine.waiting)
                finished = delta.finish is not None
                if delta.finish and delta.usage:
                    telemetry.answer_finished(engine.name, delta.finish, _figures(delta.usage))
                yield delta
    finally:
        telemetry.queue_length(engine.name, engine.waiting)
        if not finished:
            telemetry.event("answer stopped", model=engine.name)


def _figures(usage: Usage) -> telemetry.Figures:
    return telemetry.Figures(
        usage.queued_seconds,
        usage.first_token_seconds,
        usage.tokens_per_second,
        usage.prompt_tokens,
        usage.completion_tokens,
    )
