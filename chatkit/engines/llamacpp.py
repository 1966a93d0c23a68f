"""The embedded engine: llama.cpp's own server inside this process, through xllamacpp."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from chatkit.engine import Chance, Delta, Finish, Usage, WrittenToken, answer_room
from chatkit.engines.admission import Admission, Release
from chatkit.engines.bridge import Bridge
from chatkit.engines.llamacpp_server import (
    SLOTS,
    Chunk,
    EmbeddedOptions,
    LlamaCppServer,
    Use,
    start_llamacpp,
)
from chatkit.errors import ChatkitError, EngineError, InputError, Unsupported
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate
from chatkit.tokenizer import Tokenizer

# The order that transformers uses; the likeliest token needs no more than the first two.
SAMPLERS = ["penalties", "temperature", "top_k", "typ_p", "top_p", "min_p"]


class LlamaCppEngine:
    """Runs a GGUF file; the prompt goes in as token ids of our own template.

    Args:
        name: the model's name.
        gguf: the model file; loading it takes seconds.
        template: the model's chat template.
        context: the window in tokens, shared by all requests that run at once.
        defaults: the sampling for what a caller leaves unset.
        adapters: GGUF files of adapters, by their names.
        default_adapter: the adapter that answers where none is chosen; None for the base.
        slots: how many requests run at once.
        options: what it does beside what it must.
        use: who asks.

    Raises:
        ModelFileError: llama.cpp cannot load a file.
    """

    def __init__(
        self,
        name: str,
        gguf: Path,
        template: ChatTemplate,
        context: int,
        defaults: Sampling,
        adapters: Mapping[str, Path] | None = None,
        default_adapter: str | None = None,
        slots: int = SLOTS,
        options: EmbeddedOptions | None = None,
        use: Use = "page",
    ) -> None:
        self.name = name
        self.template = template
        self.context = context
        self.defaults = defaults
        self.resident_bytes = gguf.stat().st_size
        self.admission = Admission(slots, context)
        self._gguf = gguf
        self._files = dict(adapters or {})
        self._default_adapter = default_adapter
        self._options = options
        self._use = use
        self._changing = threading.Lock()
        self.server: LlamaCppServer | None = self._start(self._files)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix=f"llamacpp-{name}")

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that were loaded beside the model."""
        return tuple(self._files)

    @property
    def waiting(self) -> int:
        """How many requests stand in the queue."""
        return self.admission.waiting

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer a prompt piece by piece; see `Engine.stream`."""
        chosen = self._chosen(adapter)
        asked = time.monotonic()
        room = answer_room(prompt, sampling, self.context)
        request = _request(prompt, sampling.over(self.defaults), room)
        release = await self.admission.enter(len(prompt.ids) + room)
        queued = time.monotonic() - asked
        try:
            bridge = self._bridge(request, chosen, release)
        except BaseException:
            release()
            raise
        self._threads.submit(bridge.run)
        try:
            async for delta in self._deltas(bridge, asked, queued, sampling.logprobs or 0):
                yield delta
        finally:
            bridge.stop()

    async def add_adapter(self, name: str, file: Path) -> None:
        """Load one more adapter; what is being written goes on, and nothing restarts.

        llama.cpp cannot add one to a running server, so a second server is started beside the
        first, new requests go to it, and the first goes when its last answer has ended. The
        memory of the model is taken twice meanwhile.

        Args:
            name: by which requests choose it.
            file: its GGUF file, from `chatkit.adapters.gguf`.

        Raises:
            InputError: there is an adapter of this name.
            ModelFileError: llama.cpp cannot load it; the old server goes on.
        """
        if name in self._files:
            raise InputError(f"{self.name} has an adapter {name!r} already; remove it first.")
        await asyncio.to_thread(self._replace_server, {**self._files, name: file})

    async def remove_adapter(self, name: str) -> None:
        """Let an adapter go; answers that it writes are finished.

        Raises:
            InputError: there is no adapter of this name.
        """
        if name not in self._files:
            raise InputError(f"{self.name} has no adapter {name!r}; nothing to remove.")
        left = {other: file for other, file in self._files.items() if other != name}
        await asyncio.to_thread(self._replace_server, left)

    def _replace_server(self, files: dict[str, Path]) -> None:
        with self._changing:
            old = self._running()
            self.server = self._start(files)
            self._files = files
            old.retire()

    def _start(self, files: Mapping[str, Path]) -> LlamaCppServer:
        slots = self.admission.slots
        return start_llamacpp(self._gguf, self.context, slots, files, self._options, self._use)

    def _chosen(self, adapter: str | None) -> str | None:
        chosen = adapter or self._default_adapter
        if chosen is not None and chosen not in self._files:
            there = ", ".join(self._files) or "none"
            raise Unsupported(f"{self.name} has no adapter {chosen!r} loaded; it has {there}.")
        return chosen

    def _bridge(self, request: Chunk, adapter: str | None, release: Release) -> Bridge[Chunk]:
        """Take the server of the moment for one request."""
        self._chosen(adapter)
        server = self._running()
        handle = server.take()
        # Another one took its place between these two lines.
        while handle is None:
            server = self._running()
            handle = server.take()
        if server.adapters:
            request["lora"] = server.choice(adapter)

        def over() -> None:
            server.give_back()
            release()

        return Bridge(partial(handle, request), over)

    async def _deltas(
        self, bridge: Bridge[Chunk], asked: float, queued: float, likeliest: int
    ) -> AsyncGenerator[Delta, None]:
        first: float | None = None
        told: list[WrittenToken] = []
        async for chunk in bridge.items():
            if "error" in chunk:
                raise _error(self.name, chunk["error"])
            choice = chunk["choices"][0]
            told += _tokens(choice, self.template.tokenizer, likeliest)
            if choice["text"] and first is None:
                first = time.monotonic() - asked
            if choice["finish_reason"]:
                total = time.monotonic() - asked
                usage = _usage(chunk["usage"], queued, total if first is None else first, total)
                yield Delta(choice["text"], _finish(choice["finish_reason"]), usage, tuple(told))
                return
            if choice["text"]:
                yield Delta(choice["text"], tokens=tuple(told))
                told.clear()
        raise EngineError(f"{self.name} ended an answer without saying why; ask again.")

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[float]:
        """Refused: llama.cpp gives no probabilities of prompt tokens."""
        raise Unsupported(
            f"{self.name} cannot score given text; use the same model with @transformers."
        )

    async def prompt_logprobs(self, prompt: Prompt) -> list[float | None]:
        """Refused, as `score`."""
        raise Unsupported(
            f"{self.name} cannot score given text; use the same model with @transformers."
        )

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Refused: llama.cpp's server gives either answers or vectors."""
        raise Unsupported(
            f"{self.name} answers and gives no vectors; use the same model with @transformers."
        )

    async def health(self) -> None:
        """Return when the server runs; see `Engine.health`."""
        self._running()

    async def close(self) -> None:
        """Stop the server and give its memory back."""
        await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=False)
        if self.server is not None:
            self.server.retire()
        self.server = None

    def _running(self) -> LlamaCppServer:
        if self.server is None:
            raise EngineError(f"{self.name} was closed; load it again.")
        return self.server


def _tokens(choice: Chunk, tokenizer: Tokenizer, most: int) -> list[WrittenToken]:
    """Read which tokens a piece of text is made of.

    Of a character that several tokens make, llama.cpp names only the last one; those before it
    are what the tokenizer makes of the same text, and have no probability.
    """
    found: list[WrittenToken] = []
    for token in (choice["logprobs"] or {}).get("content", ()):
        best = token["top_logprobs"][:most]
        likeliest = tuple(Chance(one["id"], one["logprob"]) for one in best)
        if not token["token"].isascii():
            *before, last = (one.id for one in tokenizer.encode(token["token"], begins=False))
            found += [WrittenToken(id, None) for id in before if last == token["id"]]
        found.append(WrittenToken(token["id"], token["logprob"], likeliest))
    return found


def _finish(reason: str) -> Finish:
    return "length" if reason == "length" else "stop"


def _usage(counts: Chunk, queued: float, first: float, total: float) -> Usage:
    return Usage(
        prompt_tokens=counts["prompt_tokens"],
        cached_tokens=counts["prompt_tokens_details"]["cached_tokens"],
        completion_tokens=counts["completion_tokens"],
        queued_seconds=queued,
        first_token_seconds=first,
        total_seconds=total,
    )


def _error(name: str, error: Chunk) -> ChatkitError:
    said = str(error.get("message", error)).rstrip(".")
    if error.get("type") == "invalid_request_error":
        return Unsupported(f"{name} refuses the request ({said}); change its options.")
    return EngineError(f"{name} failed while it answered ({said}); ask again.")


def _request(prompt: Prompt, sampling: Sampling, room: int) -> Chunk:
    """Translate to llama.cpp's options."""
    request: Chunk = {
        "prompt": list(prompt.ids),
        "n_predict": room,
        "stream": True,
        "return_progress": True,
        "samplers": SAMPLERS if sampling.temperature else SAMPLERS[:2],
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or 0,
        "top_p": sampling.top_p or 1.0,
        "typical_p": sampling.typical_p or 1.0,
        "min_p": sampling.min_p or 0.0,
        "repeat_last_n": len(prompt.ids) + room,
        "repeat_penalty": sampling.repetition_penalty or 1.0,
        "presence_penalty": sampling.presence_penalty or 0.0,
        "frequency_penalty": sampling.frequency_penalty or 0.0,
        "stop": list(sampling.stop),
    }
    if sampling.seed is not None:
        request["seed"] = sampling.seed
    if sampling.json_schema is not None:
        request["json_schema"] = sampling.json_schema
    if sampling.regex is not None:
        request["grammar"] = _grammar(sampling.regex)
    if sampling.logprobs is not None:
        request["logprobs"] = max(1, sampling.logprobs)
    return request


def _grammar(regex: str) -> str:
    """Write a regular expression as a grammar of llguidance, which xllamacpp is built with."""
    return "%llguidance {}\nstart: /" + regex.replace("/", "\\/") + "/"
