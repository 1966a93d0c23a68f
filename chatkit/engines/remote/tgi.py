"""The `tgi:` engine: a server that speaks the wire of text-generation-inference."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from chatkit.engine import Chance, Delta, Finish, Usage, WrittenToken, answer_room
from chatkit.engines.remote.tgi_client import TgiClient
from chatkit.engines.remote.tgi_facts import TgiFacts, spelled, tgi_parameters
from chatkit.engines.remote.wire import Wire
from chatkit.engines.stop_strings import StopStrings
from chatkit.errors import PromptTooLong, Unsupported
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate


class TgiEngine:
    """Asks a TGI server; the prompt goes as text that it reads as our template's token ids.

    Args:
        name: the model's name.
        wire: the server.
        facts: what it says of itself.
        template: the model's chat template, which was compared with the server's tokenizer.
        defaults: the sampling for what a caller leaves unset.
    """

    def __init__(
        self, name: str, wire: Wire, facts: TgiFacts, template: ChatTemplate, defaults: Sampling
    ) -> None:
        self.name = name
        self.template = template
        self.context = facts.max_total_tokens
        # TGI knows no min_p; a caller who asks for it hears so.
        self.defaults = defaults.model_copy(update={"min_p": None})
        self.resident_bytes = 0
        self._wire = wire
        self._facts = facts
        self._client = TgiClient(wire)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that the server names; TGI itself names none and takes any."""
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
        if len(prompt.ids) > self._facts.max_input_tokens:
            raise PromptTooLong(
                f"The prompt has {len(prompt.ids)} tokens and the server of {self.name} reads "
                f"{self._facts.max_input_tokens}; shorten it or begin a new conversation."
            )
        asked, room = time.monotonic(), answer_room(prompt, sampling, self.context)
        drawn = sampling.over(self.defaults)
        text = spelled(self.template.tokenizer, prompt, self._facts, self.name)
        parameters = tgi_parameters(drawn, room, self._facts, self.template.tokenizer)
        if adapter is not None:
            parameters["adapter_id"] = adapter
        async with aclosing(self._client.heard(text, parameters)) as events:
            async for delta in self._deltas(events, prompt, drawn, room, asked):
                yield delta

    async def _deltas(
        self,
        events: AsyncGenerator[Any, None],
        prompt: Prompt,
        sampling: Sampling,
        room: int,
        asked: float,
    ) -> AsyncGenerator[Delta, None]:
        stop, count, first = StopStrings(sampling.stop), 0, 0.0
        told: list[WrittenToken] = []
        async for event, likeliest in events:
            count += 1
            if count > room:
                raise self._wire.failed("writes more than it was asked for")
            token = event.token
            if sampling.logprobs is not None:
                told.append(_written(token, likeliest, sampling.logprobs))
            text = "" if token.special else stop.feed(token.text)
            if text:
                first = first or time.monotonic() - asked
            if event.generated_text is not None:
                details = event.details
                cut = details is not None and details.finish_reason == "length"
                total = time.monotonic() - asked
                read = len(prompt.ids)
                usage = Usage(read, 0, count, 0.0, first or total, total)
                finish: Finish = "length" if cut and not stop.reached else "stop"
                yield Delta(text + stop.rest(), finish, usage, tuple(told))
                return
            if text:
                yield Delta(text, tokens=tuple(told))
                told.clear()
            if stop.reached:
                total = time.monotonic() - asked
                usage = Usage(len(prompt.ids), 0, count, 0.0, first or total, total)
                yield Delta("", "stop", usage, tuple(told))
                return

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[float]:
        """Give the log-likelihood of each continuation; see `Engine.score`."""
        scores = []
        for continuation in continuations:
            added = self.template.tokenizer.encode(continuation, begins=not prompt.ids)
            ids = (*prompt.ids, *(token.id for token in added))
            whole = Prompt(ids, prompt.text + continuation, (), "")
            logprobs = await self.prompt_logprobs(whole)
            scores.append(sum(one or 0.0 for one in logprobs[len(prompt.ids) :]))
        return scores

    async def prompt_logprobs(self, prompt: Prompt) -> list[float | None]:
        """Give the log-probability of each token of the prompt; see `Engine.prompt_logprobs`."""
        text = spelled(self.template.tokenizer, prompt, self._facts, self.name)
        parameters = {"decoder_input_details": True, "details": True, "max_new_tokens": 1}
        reply = await self._wire.post("/generate", {"inputs": text, "parameters": parameters})
        try:
            told = [token["logprob"] for token in reply["details"]["prefill"]]
        except (KeyError, TypeError):
            raise self._wire.failed("answered without details") from None
        if len(told) != len(prompt.ids) or any(one is None for one in told[1:]):
            raise Unsupported(
                f"The server of {self.name} gives no probabilities of given text; start TGI with "
                "--enable-prefill-logprobs, or use the model with @transformers."
            )
        return told

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Refused: TGI's wire has no vectors."""
        raise Unsupported(f"{self.name} gives no vectors; use the same model with @transformers.")

    async def health(self) -> None:
        """Return when the server can work; see `Engine.health`."""
        await self._wire.reach("/health")

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.sessions.close()


def _written(token: Any, likeliest: Sequence[dict[str, Any]], most: int) -> WrittenToken:
    chances = tuple(Chance(int(one["id"]), float(one["logprob"])) for one in likeliest)
    return WrittenToken(token.id, token.logprob, chances[:most])
