"""The research engine: transformers on CPU, CUDA or MPS, with 8- and 4-bit weights and adapters."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from chatkit.engine import Delta, Finish, Usage, WrittenToken, answer_room
from chatkit.engines.admission import Admission
from chatkit.engines.bridge import Bridge
from chatkit.engines.decoding import Decoding, Row
from chatkit.engines.scoring import Continuation, Likelihood, score_continuations
from chatkit.engines.stop_strings import StopStrings
from chatkit.engines.weights import adapter_key, return_memory, weight_bytes
from chatkit.errors import ChatkitError, EngineError, InputError, Unsupported
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Result = TypeVar("Result")


class TransformersEngine:
    """Runs a checkpoint; one answer, or one batch of answers, at a time.

    Args:
        name: the model's name.
        model: the loaded model, on its device, in evaluation mode.
        template: the model's chat template.
        defaults: the sampling for what a caller leaves unset.
        adapters: the names of the adapters that are loaded into the model, in their order.
        default_adapter: the adapter that answers where none is chosen; None for the base.
    """

    def __init__(
        self,
        name: str,
        model: "PreTrainedModel",
        template: ChatTemplate,
        defaults: Sampling,
        adapters: tuple[str, ...] = (),
        default_adapter: str | None = None,
    ) -> None:
        self.name = name
        self.template = template
        self.context = int(model.config.max_position_embeddings)
        self.defaults = defaults
        self.resident_bytes = weight_bytes(model)
        self.adapters = adapters
        self._default_adapter = default_adapter
        self.model: PreTrainedModel | None = model
        self._ends = _end_ids(model, template)
        self.admission = Admission(slots=1, tokens=self.context)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"transformers-{name}")

    @property
    def waiting(self) -> int:
        """How many requests stand in the queue."""
        return self.admission.waiting

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer a prompt piece by piece; see `Engine.stream`."""
        self._refuse(sampling, adapter)
        asked = time.monotonic()
        row = self._row(prompt, sampling)
        release = await self.admission.enter(len(row.ids) + row.room)
        queued = time.monotonic() - asked
        decoding = Decoding(self._loaded(), [row], self._ends)
        work = partial(self._decode, decoding, adapter or self._default_adapter)
        bridge: Bridge[WrittenToken | None] = Bridge(work, release)
        self._thread.submit(bridge.run)
        try:
            async for delta in self._deltas(bridge, row, (asked, queued)):
                yield delta
        finally:
            bridge.stop()

    async def batch(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
        """Answer several prompts together, padded to one length; quicker than one by one.

        Raises: as `Engine.stream`.
        """
        self._refuse(sampling, None)
        rows = [self._row(prompt, sampling) for prompt in prompts]
        release = await self.admission.enter(1)
        try:
            return await self._on_thread(partial(self._answer_rows, rows))
        finally:
            release()

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[float]:
        """Give the log-likelihood of each continuation after the prompt, in nats."""
        encode = partial(self.template.tokenizer.encode, begins=not prompt.ids)
        wanted = [
            Continuation(prompt.ids, tuple(token.id for token in encode(continuation)))
            for continuation in continuations
        ]
        return [likelihood.logprob for likelihood in await self.score_ids(wanted)]

    async def score_ids(self, wanted: Sequence[Continuation]) -> list[Likelihood]:
        """Tell how likely many continuations are, each token of them all computed once.

        Raises: as `score`.
        """
        release = await self.admission.enter(1)
        try:
            model = self._loaded()
            return await self._on_thread(partial(score_continuations, model, wanted))
        finally:
            release()

    async def prompt_logprobs(self, prompt: Prompt) -> list[float | None]:
        """Give the log-probability of each token of the prompt; see `Engine.prompt_logprobs`."""
        release = await self.admission.enter(1)
        try:
            return await self._on_thread(partial(self._prompt_logprobs, prompt))
        finally:
            release()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Give a vector for each text; see `Engine.embed`."""
        release = await self.admission.enter(1)
        try:
            return await self._on_thread(partial(self._embed, texts))
        finally:
            release()

    async def health(self) -> None:
        """Return while the model is loaded; see `Engine.health`."""
        self._loaded()

    async def close(self) -> None:
        """Let the answer under way end and give the memory back."""
        await asyncio.to_thread(self._thread.shutdown)
        self.model = None
        await asyncio.to_thread(return_memory)

    async def _deltas(
        self, bridge: Bridge[WrittenToken | None], row: Row, times: tuple[float, float]
    ) -> AsyncGenerator[Delta, None]:
        asked, queued = times
        decoder, stop = self.template.tokenizer.decoder(), StopStrings(row.sampling.stop)
        first: float | None = None
        finish: Finish = "length"
        count = 0
        told: list[WrittenToken] = []
        async for token in bridge.items():
            if token is None:
                continue
            count += 1
            if row.sampling.logprobs is not None:
                told.append(token)
            ended = token.id in self._ends
            text = "" if ended else stop.feed(decoder.step(token.id))
            if text:
                first = first or time.monotonic() - asked
                yield Delta(text, tokens=tuple(told))
                told.clear()
            if ended or stop.reached:
                finish = "stop"
                break
        total = time.monotonic() - asked
        usage = Usage(len(row.ids), 0, count, queued, first or total, total)
        yield Delta(stop.rest(), finish, usage, tuple(told))

    def _decode(
        self,
        decoding: Decoding,
        adapter: str | None,
        hear: Callable[[WrittenToken | None], bool],
    ) -> None:
        with self._speaking_as(adapter):
            _work(self.name, decoding, hear)

    @contextmanager
    def _speaking_as(self, adapter: str | None) -> Iterator[None]:
        """Let an adapter answer, or the base; only one request at a time is on the thread."""
        # With adapters the model is PEFT's.
        model: Any = self._loaded()
        if not self.adapters:
            yield
        elif adapter is None:
            with model.disable_adapter():
                yield
        else:
            model.set_adapter(adapter_key(self.adapters.index(adapter)), inference_mode=True)
            yield

    def _answer_rows(self, rows: Sequence[Row]) -> list[str]:
        written: list[list[int]] = [[] for _ in rows]
        for tokens in Decoding(self._loaded(), rows, self._ends).steps(lambda: False):
            for ids, token in zip(written, tokens, strict=True):
                if token is not None and token.id not in self._ends:
                    ids.append(token.id)
        return [
            _cut(self.template.tokenizer.decode(ids), row.sampling.stop)
            for ids, row in zip(written, rows, strict=True)
        ]

    def _prompt_logprobs(self, prompt: Prompt) -> list[float | None]:
        import torch

        model = self._loaded()
        ids = torch.tensor([prompt.ids], device=model.device)
        with torch.inference_mode():
            chances = model(ids).logits[0, :-1].float().log_softmax(-1)
        return [None, *chances.gather(1, ids[0, 1:].unsqueeze(1)).squeeze(1).tolist()]

    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        import torch

        model, vectors = self._loaded(), []
        for text in texts:
            tokens = self.template.tokenizer.encode(text)[: self.context]
            if not tokens:
                raise InputError("An empty text has no vector; write something.")
            ids = torch.tensor([[token.id for token in tokens]], device=model.device)
            with torch.inference_mode():
                states = model(ids, output_hidden_states=True, logits_to_keep=1).hidden_states
            mean = states[-1][0].float().mean(0)
            vectors.append((mean / mean.norm()).tolist())
        return vectors

    async def _on_thread(self, work: Callable[[], Result]) -> Result:
        def as_default() -> Result:
            with self._speaking_as(self._default_adapter):
                return work()

        with _told(self.name):
            return await asyncio.get_running_loop().run_in_executor(self._thread, as_default)

    def _row(self, prompt: Prompt, sampling: Sampling) -> Row:
        room = answer_room(prompt, sampling, self.context)
        return Row(prompt.ids, sampling.over(self.defaults), room)

    def _refuse(self, sampling: Sampling, adapter: str | None) -> None:
        if sampling.json_schema is not None or sampling.regex is not None:
            raise Unsupported(
                f"{self.name} keeps to no json_schema and no regex; use the embedded engine "
                "(@llamacpp)."
            )
        if adapter not in (None, *self.adapters):
            there = ", ".join(self.adapters) or "none"
            raise Unsupported(f"{self.name} has no adapter {adapter!r} loaded; it has {there}.")

    def _loaded(self) -> "PreTrainedModel":
        if self.model is None:
            raise EngineError(f"{self.name} was closed; load it again.")
        return self.model


def _work(name: str, decoding: Decoding, hear: Callable[[WrittenToken | None], bool]) -> None:
    """Decode one row; between the pieces of a long prompt it reports None, to hear of a stop."""
    with _told(name):
        for tokens in decoding.steps(partial(hear, None)):
            if hear(tokens[0]):
                return


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say in one sentence what went wrong underneath."""
    import torch

    try:
        yield
    except ChatkitError:
        raise
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"{name} ran out of memory while it worked; shorten the conversation, let another "
            "model go, or load it with quantize='int8' or 'int4'."
        ) from error
    except Exception as error:
        raise EngineError(f"{name} failed while it worked ({error}); ask again.") from error


def _end_ids(model: "PreTrainedModel", template: ChatTemplate) -> frozenset[int]:
    """Collect every id that ends an answer: the configuration's and the tokenizer's."""
    generation: Any = model.generation_config
    configured = generation.eos_token_id
    ids = {configured} if isinstance(configured, int) else set(configured or ())
    eos = template.tokenizer.eos
    if eos in template.tokenizer.control:
        ids.add(template.tokenizer.control[eos].id)
    return frozenset(ids)


def _cut(text: str, stop: Sequence[str]) -> str:
    return StopStrings(stop).feed(text) if stop else text
