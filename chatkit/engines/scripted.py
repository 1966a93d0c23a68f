"""The engine that answers from a script: for tests, demos of failure, and trying out an app."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from chatkit.engine import NEUTRAL, Chance, Delta, Finish, Usage, WrittenToken, answer_room
from chatkit.engines.admission import Admission
from chatkit.errors import EngineError, Unsupported
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate
from chatkit.tokenizer import Tokenizer

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def echo(question: str) -> str:
    """Answer with the question itself."""
    return f"You said: {question}"


@dataclass(frozen=True, slots=True)
class Script:
    """What the engine does.

    Args:
        answer: makes the answer from the last message, or from a prompt that has no messages.
        reading_seconds: how long it reads a prompt.
        token_seconds: how long each token takes.
        fail_after: raise an `EngineError` after this many tokens; None never fails.
        slots: how many requests run at once.
        context: the window in tokens.
        adapters: who answers instead, by the names of adapters.
    """

    answer: Callable[[str], str] = echo
    reading_seconds: float = 0.0
    token_seconds: float = 0.0
    fail_after: int | None = None
    slots: int = 4
    context: int = 4096
    adapters: Mapping[str, Callable[[str], str]] = field(default_factory=dict)


class ScriptedEngine:
    """Answers from a script, byte by byte of a real tokenizer with a ChatML template.

    Args:
        script: what to do.
        name: the model's name.
    """

    def __init__(self, script: Script | None = None, name: str = "scripted:") -> None:
        self.name = name
        self.script = script or Script()
        self.template = ChatTemplate(byte_tokenizer())
        self.context = self.script.context
        self.defaults = NEUTRAL
        self.resident_bytes = 0
        self.admission = Admission(self.script.slots, self.script.slots * self.script.context)
        self.tokens_written = 0
        self._closed = False

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names that the script knows."""
        return tuple(self.script.adapters)

    @property
    def waiting(self) -> int:
        """How many requests stand in the queue."""
        return self.admission.waiting

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer from the script piece by piece; see `Engine.stream`."""
        self._refuse(sampling, adapter)
        await self.health()
        asked = time.monotonic()
        room = answer_room(prompt, sampling, self.context)
        release = await self.admission.enter(len(prompt.ids) + room)
        queued = time.monotonic() - asked
        try:
            await asyncio.sleep(self.script.reading_seconds)
            answer = self.script.adapters[adapter] if adapter else self.script.answer
            said = answer(prompt.messages[-1].content if prompt.messages else prompt.text)
            async for delta in self._write(said, prompt, sampling, room, (asked, queued)):
                yield delta
        finally:
            release()

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[float]:
        """Refused: a script has no probabilities."""
        raise Unsupported("scripted: cannot score text; use a model with @transformers.")

    async def prompt_logprobs(self, prompt: Prompt) -> list[float | None]:
        """Refused, as `score`."""
        raise Unsupported("scripted: cannot score text; use a model with @transformers.")

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Refused: a script has no vectors."""
        raise Unsupported("scripted: gives no vectors; use a model with @transformers.")

    async def health(self) -> None:
        """Return while the engine is open; see `Engine.health`."""
        if self._closed:
            raise EngineError(f"{self.name} was closed; open it again.")

    async def close(self) -> None:
        """Refuse what comes after this."""
        self._closed = True

    def _refuse(self, sampling: Sampling, adapter: str | None) -> None:
        if adapter not in (None, *self.adapters):
            raise Unsupported(f"scripted: has no adapter {adapter!r}; ask without one.")
        if sampling.json_schema is not None or sampling.regex is not None:
            raise Unsupported("scripted: keeps to no json_schema and no regex; ask without one.")

    async def _write(
        self,
        said: str,
        prompt: Prompt,
        sampling: Sampling,
        room: int,
        times: tuple[float, float],
    ) -> AsyncGenerator[Delta, None]:
        asked, queued = times
        tokens = self.template.tokenizer.encode(_until_stop(said, sampling.stop))
        told: list[WrittenToken] = []
        decoder = self.template.tokenizer.decoder()
        first: float | None = None
        began = time.monotonic()
        for count, token in enumerate(tokens[:room]):
            if count == self.script.fail_after:
                raise EngineError(f"{self.name} failed after {count} tokens, as its script says.")
            # By the clock, not from token to token, or a busy machine would slow the script down.
            due = began + (count + 1) * self.script.token_seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.tokens_written += 1
            if sampling.logprobs is not None:
                told.append(_certain(token.id, sampling.logprobs))
            if text := decoder.step(token.id):
                first = first or time.monotonic() - asked
                yield Delta(text, tokens=tuple(told))
                told.clear()
        finish: Finish = "length" if len(tokens) > room else "stop"
        total = time.monotonic() - asked
        usage = Usage(len(prompt.ids), 0, min(len(tokens), room), queued, first or total, total)
        eos = self.template.tokenizer.eos
        if sampling.logprobs is not None and finish == "stop" and eos:
            told.append(_certain(self.template.tokenizer.control[eos].id, sampling.logprobs))
        yield Delta("", finish, usage, tuple(told))


def byte_tokenizer(*, ends: bool = True) -> Tokenizer:
    """Make a tokenizer with one token per byte, and ChatML's control tokens.

    Args:
        ends: whether it names its end token.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    control = ["<|im_start|>", "<|im_end|>"]
    definition = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": len(letters) + index,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, text in enumerate(control)
        ],
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        },
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "vocab": {letter: index for index, letter in enumerate(letters)},
            "merges": [],
        },
    }
    return Tokenizer(json.dumps(definition), {"eos_token": "<|im_end|>"} if ends else {}, CHATML)


def _certain(id: int, likeliest: int) -> WrittenToken:
    """A script has no doubt."""
    return WrittenToken(id, 0.0, (Chance(id, 0.0),)[:likeliest])


def _until_stop(answer: str, stop: Sequence[str]) -> str:
    cuts = [answer.index(text) for text in stop if text in answer]
    return answer[: min(cuts)] if cuts else answer
