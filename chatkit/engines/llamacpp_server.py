"""llama.cpp's server inside this process: started, asked, and let go when its work is done."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chatkit.engines.huge_pages import gathered_into_huge_pages, huge_pages_available
from chatkit.errors import ModelFileError
from chatkit.hardware import available_memory, core_count
from chatkit.loading.llamacpp_library import has_card, import_xllamacpp

if TYPE_CHECKING:
    from xllamacpp import Server

Chunk = dict[str, Any]
CacheType = Literal["f16", "q8_0"]
Use = Literal["page", "session", "many"]
"""A chat page; one person's notebook, script or terminal; a server or an evaluation."""
Handle = Callable[[Chunk, Callable[[Chunk], bool]], None]
"""Works on a request until it is done or the function that hears each chunk says True."""

SLOTS = 4
# Between two batches the server looks whether a request was closed, so a batch must be short.
BATCH_TOKENS = 256
# Plain attention keeps the scores of a whole batch, for every head and the whole window.
PLAIN_BATCH_TOKENS = 64
# Conversations that lost their place in the window wait for their next turn in a sixteenth of the
# memory that is free, and in so many MiB at least.
IDLE_CACHE_SHARE = 16
LEAST_IDLE_CACHE = 64


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """What the embedded engine does beside what it must; `docs/serving.md` says what each pays.

    Args:
        speculate: guess the next tokens from what was read and written before, and check several
            at once (n-gram lookup); the text stays what the model says.
        kv_cache: how the window is kept in memory; 8 bits take half of it, and change the text.
    """

    speculate: bool = False
    kv_cache: CacheType = "f16"


_SETTLE_SECONDS = 0.2


class LlamaCppServer:
    """A running server with the adapters that were loaded beside its model.

    Args:
        server: llama.cpp's.
        adapters: the places of adapters in it, by their names.
    """

    def __init__(self, server: "Server", adapters: Mapping[str, int]) -> None:
        self._server: Server | None = server
        self.adapters = adapters
        self._lock = threading.Lock()
        self._running = 0
        self._retired = False

    @property
    def raw(self) -> "Server":
        """llama.cpp's own server, for measurements."""
        assert self._server is not None
        return self._server

    def take(self) -> Handle | None:
        """Take the server for one request, which must be given back; None when it was let go."""
        with self._lock:
            if self._server is None or self._retired:
                return None
            self._running += 1
            handle: Handle = self._server.handle_completions
            return handle

    def give_back(self) -> None:
        """Note that a request is over; a retired server goes with its last one."""
        with self._lock:
            self._running -= 1
            self._let_go()

    def retire(self) -> None:
        """Take no more requests; the memory is given back when the running ones are over."""
        with self._lock:
            self._retired = True
            self._let_go()

    def choice(self, adapter: str | None) -> list[Chunk]:
        """Say for each adapter whether a request uses it."""
        return [
            {"id": place, "scale": 1.0 if name == adapter else 0.0}
            for name, place in self.adapters.items()
        ]

    def _let_go(self) -> None:
        if self._retired and self._running == 0 and self._server is not None:
            # Its end waits for its own threads without letting Python go on, and one that is just
            # handing back a request's callback waits for Python: so they get time for that first.
            time.sleep(_SETTLE_SECONDS)
            self._server = None


def start_llamacpp(
    gguf: Path,
    context: int,
    slots: int = SLOTS,
    adapters: Mapping[str, Path] | None = None,
    options: EmbeddedOptions | None = None,
    use: Use = "page",
) -> LlamaCppServer:
    """Start llama.cpp's server inside this process.

    It also listens on a free loopback port; a random key that nobody learns keeps it shut.

    Args:
        gguf: the model file.
        context: the window in tokens, shared by all requests.
        slots: how many requests run at once.
        adapters: GGUF files of adapters, by their names.
        options: what it does beside what it must.
        use: who asks. Of many conversations at once a CPU computes attention another way than of
            one or two, and beside a page a browser may draw.

    Raises:
        ModelFileError: llama.cpp cannot load a file.
    """
    CommonParams, Server = import_xllamacpp()
    files, parameters = dict(adapters or {}), CommonParams()
    parameters.model.path = str(gguf)
    parameters.n_ctx = context
    parameters.n_parallel = slots
    parameters.kv_unified = True
    parameters.n_batch = BATCH_TOKENS
    parameters.n_ubatch = BATCH_TOKENS
    # That cache knows a state by its tokens alone, not by the adapter that read them.
    parameters.cache_ram_mib = 0 if files else _idle_cache_mib()
    _shut(parameters)
    _set_threads(parameters, use)
    # To divide a model between a card and main memory it reads the file one more time.
    parameters.fit_params = on_card = has_card()
    options = options or EmbeddedOptions()
    # Plain attention was measured on CPUs only, and a cache of 8 bits needs flash attention.
    plain = use != "many" and not on_card and options.kv_cache == "f16"
    _set_options(parameters, options)
    if plain:
        _set_plain_attention(parameters)
    # Plain attention and graphics cards compute what is masked too, so who rests leaves the window;
    # flash attention on a CPU does not, and there nothing need be copied.
    parameters.cache_idle_slots = plain or on_card
    if files:
        from xllamacpp import CommonAdapterLoraInfo

        parameters.lora_adapters = [
            CommonAdapterLoraInfo(str(path), 0.0) for path in files.values()
        ]
    try:
        server = _start(Server, parameters, gguf)
    except RuntimeError:
        named = " or its adapters" if files else ""
        raise ModelFileError(
            f"llama.cpp cannot load {gguf.name}{named}; the file is corrupt or of an unknown "
            "kind: pull the model again."
        ) from None
    return LlamaCppServer(server, {name: place for place, name in enumerate(files)})


def _start(Server: "type[Server]", parameters: Any, gguf: Path) -> "Server":
    # While weights are copied out of the file, the system may keep the file in memory as well.
    roomy = 2 * gguf.stat().st_size <= available_memory()
    if not (roomy and huge_pages_available()):
        return Server(parameters)
    from xllamacpp import llama_load_mode

    # A file that is mapped stays in small pages.
    parameters.load_mode = llama_load_mode.LLAMA_LOAD_MODE_NONE
    with gathered_into_huge_pages():
        return Server(parameters)


def _idle_cache_mib() -> int:
    return max(LEAST_IDLE_CACHE, available_memory() // IDLE_CACHE_SHARE // 2**20)


def _shut(parameters: Any) -> None:
    parameters.port = 0
    parameters.ui = False
    parameters.api_keys = [secrets.token_hex()]
    parameters.verbosity = -1


def _set_threads(parameters: Any, use: Use) -> None:
    # Writing leaves one core to the page and the rest of the machine; threads that must wait for
    # a busy core cost more than they give. Where no page is drawn two cores both write, since one
    # alone does not always read memory as fast as it can be read. Reading a prompt takes all.
    cores = core_count()
    spare = 0 if use != "page" and cores <= 2 else 1
    parameters.cpuparams.n_threads = max(1, cores - spare)
    parameters.cpuparams_batch.n_threads = cores


def _set_options(parameters: Any, options: EmbeddedOptions) -> None:
    from xllamacpp import common_speculative_type, ggml_type

    if options.speculate:
        parameters.speculative.types = [common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_MOD]
    if options.kv_cache == "q8_0":
        parameters.cache_type_k = parameters.cache_type_v = ggml_type.GGML_TYPE_Q8_0


def _set_plain_attention(parameters: Any) -> None:
    # For fewer than 64 tokens flash attention goes token by token, and a conversation by itself
    # reads and writes few at a time. Of many conversations it leaves out what is masked, though.
    from xllamacpp import llama_flash_attn_type

    parameters.flash_attn_type = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.n_ubatch = PLAIN_BATCH_TOKENS
