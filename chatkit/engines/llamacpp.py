"""The embedded engine: llama.cpp's own server inside this process, through xllamacpp."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatkit.engine import Chance, Delta, Finish, Usage, WrittenToken, answer_room
from chatkit.engines.admission import Admission
from chatkit.engines.bridge import Bridge
from chatkit.errors import ChatkitError, EngineError, ModelFileError, Unsupported
from chatkit.hardware import core_count
from chatkit.loading.llamacpp_library import import_xllamacpp
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate
from chatkit.tokenizer import Tokenizer

if TYPE_CHECKING:
    from xllamacpp import Server

Chunk = dict[str, Any]

SLOTS = 4
# Between two batches the server looks whether a request was closed, so a batch must be short.
BATCH_TOKENS = 256
# The order that transformers uses; the likeliest token needs no more than the first two.
SAMPLERS = ["penalties", "temperature", "top_k", "typ_p", "top_p", "min_p"]
# Old conversations' states wait in memory for their next turn, in MiB.
IDLE_CACHE_MIB = 64


class LlamaCppEngine:
    """Runs a GGUF file; the prompt goes in as token ids of our own template.

    Args:
        name: the model's name.
        server: the running llama.cpp server.
        template: the model's chat template.
        context: the window in tokens, shared by all requests that run at once.
        defaults: the sampling for what a caller leaves unset.
        resident_bytes: an estimate of the memory that it holds.
        slots: how many requests run at once.
    """

    def __init__(
        self,
        name: str,
        server: "Server",
        template: ChatTemplate,
        context: int,
        defaults: Sampling,
        resident_bytes: int,
        slots: int = SLOTS,
    ) -> None:
        self.name = name
        self.template = template
        self.context = context
        self.defaults = defaults
        self.resident_bytes = resident_bytes
        self.server: Server | None = server
        self.admission = Admission(slots, context)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix=f"llamacpp-{name}")

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that were loaded beside the model."""
        return ()

    @property
    def waiting(self) -> int:
        """How many requests stand in the queue."""
        return self.admission.waiting

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer a prompt piece by piece; see `Engine.stream`."""
        if adapter is not None:
            raise Unsupported(
                f"{self.name} has no adapter {adapter!r} loaded; "
                "open the adapter's folder with @transformers."
            )
        asked = time.monotonic()
        room = answer_room(prompt, sampling, self.context)
        request = _request(prompt, sampling.over(self.defaults), room)
        release = await self.admission.enter(len(prompt.ids) + room)
        queued = time.monotonic() - asked
        server = self._running()
        bridge: Bridge[Chunk] = Bridge(partial(server.handle_completions, request), release)
        self._threads.submit(bridge.run)
        try:
            async for delta in self._deltas(bridge, asked, queued, sampling.logprobs or 0):
                yield delta
        finally:
            bridge.stop()

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
        self.server = None

    def _running(self) -> "Server":
        if self.server is None:
            raise EngineError(f"{self.name} was closed; load it again.")
        return self.server


def start_llamacpp(gguf: Path, context: int, slots: int = SLOTS) -> "Server":
    """Start llama.cpp's server inside this process.

    It also listens on a free loopback port; a random key that nobody learns keeps it shut.

    Args:
        gguf: the model file.
        context: the window in tokens, shared by all requests.
        slots: how many requests run at once.

    Raises:
        ModelFileError: llama.cpp cannot load the file.
    """
    CommonParams, Server = import_xllamacpp()
    parameters = CommonParams()
    parameters.model.path = str(gguf)
    parameters.n_ctx = context
    parameters.n_parallel = slots
    parameters.kv_unified = True
    # Writing leaves one core to the page and the rest of the machine; threads that must wait for
    # a busy core cost more than they give. Reading a prompt takes all cores.
    parameters.cpuparams.n_threads = max(1, core_count() - 1)
    parameters.cpuparams_batch.n_threads = core_count()
    parameters.n_batch = BATCH_TOKENS
    parameters.n_ubatch = BATCH_TOKENS
    parameters.cache_ram_mib = IDLE_CACHE_MIB
    parameters.port = 0
    parameters.ui = False
    parameters.api_keys = [secrets.token_hex()]
    parameters.verbosity = -1
    try:
        return Server(parameters)
    except RuntimeError:
        raise ModelFileError(
            f"llama.cpp cannot load {gguf.name}; the file is corrupt or of an unknown kind: "
            "pull the model again."
        ) from None


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
