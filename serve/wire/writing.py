"""An answer token by token, as TGI tells it."""

import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal

from chatkit.engine import Chance, Delta, Engine, Usage, WrittenToken
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.tokenizer import Tokenizer
from serve.wire.refusals import Incomplete

Ending = Literal["length", "eos_token", "stop_sequence"]


@dataclass(frozen=True, slots=True)
class Written:
    """A token of an answer.

    Args:
        id: which one.
        text: what it adds; empty while a character is not whole yet.
        special: whether it is a control token, whose text is no part of the answer.
        logprob: its log-probability in nats, None where the engine does not tell it.
        likeliest: the likeliest tokens in its place.
        ending: why the answer ends with it; None before the last one.
        usage: what the answer took; with the last one only.
    """

    id: int
    text: str
    special: bool
    logprob: float | None
    likeliest: tuple[Chance, ...] = ()
    ending: Ending | None = None
    usage: Usage | None = None


class Writer:
    """Writes answers of one engine.

    Args:
        engine: who answers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.tokenizer: Tokenizer = engine.template.tokenizer
        self.special: Mapping[int, str] = {
            token.id: token.text for token in self.tokenizer.control.values()
        }
        eos = self.tokenizer.control.get(self.tokenizer.eos or "")
        self._end = Written(eos.id if eos else 0, eos.text if eos else "", True, None)

    async def write(
        self,
        prompt: Prompt,
        sampling: Sampling,
        stop: Sequence[str] = (),
        adapter: str | None = None,
    ) -> AsyncGenerator[Written, None]:
        """Answer a prompt.

        A stop string ends the answer only when the text ends with it, and stays in the text.

        Args:
            prompt: what is read.
            sampling: how tokens are drawn; `max_tokens` and `logprobs` must be set.
            stop: the stop strings.
            adapter: which adapter, None for the base.

        Raises:
            Incomplete: the engine ended without saying why; else as `Engine.stream`.
        """
        asked, count, ending = time.monotonic(), 0, _Tail(stop)
        first = 0.0
        # The last token that is allowed waits for the engine to tell what the answer took.
        last: Written | None = None
        async with aclosing(self._engine.stream(prompt, sampling, adapter)) as deltas:
            async for delta in deltas:
                for token in self._tokens(delta):
                    count += 1
                    first = first or time.monotonic() - asked
                    if not token.special and ending.reached(token.text):
                        total = time.monotonic() - asked
                        usage = Usage(len(prompt.ids), 0, count, 0.0, first, total)
                        yield replace(token, ending="stop_sequence", usage=usage)
                        return
                    if token.special or count == sampling.max_tokens:
                        last = token
                    else:
                        yield token
                if delta.finish and delta.usage:
                    usage = replace(delta.usage, completion_tokens=max(count, 1))
                    full = delta.finish == "length" or count == sampling.max_tokens
                    why: Ending = "length" if full else "eos_token"
                    yield replace(last or self._end, ending=why, usage=usage)
                    return
        raise Incomplete

    def _tokens(self, delta: Delta) -> Iterator[Written]:
        """Take a delta's tokens; its text belongs to the last one that is no control token."""
        tokens = delta.tokens or self._told_by_text(delta.text)
        plain = [token for token in tokens if token.id not in self.special]
        for token in tokens:
            special = self.special.get(token.id)
            text = special or (delta.text if token is plain[-1] else "")
            yield Written(token.id, text, special is not None, token.logprob, token.likeliest)

    def _told_by_text(self, text: str) -> tuple[WrittenToken, ...]:
        """Make tokens of a text whose engine names none; as one, so that no text is split."""
        if not text:
            return ()
        return (WrittenToken(self.tokenizer.encode(text, begins=False)[-1].id, None),)


class _Tail:
    """Looks whether an answer ends with a stop string."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._keep = max((len(text) for text in stop), default=0)
        self._text = ""

    def reached(self, added: str) -> bool:
        """Take what was added, and tell whether the answer ends here."""
        if not self._stop or not added:
            return False
        self._text = (self._text + added)[-self._keep - len(added) :]
        return self._text.endswith(self._stop)
