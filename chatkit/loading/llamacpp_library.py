"""Imports llama.cpp, and asks it how it splits text into tokens."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chatkit.errors import MissingExtra, ModelFileError
from chatkit.loading.waiting_threads import waiting_threads_sleep

if TYPE_CHECKING:
    from xllamacpp import CommonParams, Server


def import_xllamacpp() -> "tuple[type[CommonParams], type[Server]]":
    """Import llama.cpp so that its threads leave a busy machine's cores to each other.

    Raises:
        MissingExtra: a system library that llama.cpp needs is missing.
    """
    try:
        with waiting_threads_sleep():
            from xllamacpp import CommonParams, Server
    except ImportError as error:
        raise MissingExtra(
            f"llama.cpp cannot be loaded ({error}); on Debian and Ubuntu run "
            "`apt-get install libgomp1`."
        ) from error
    return CommonParams, Server


def has_card() -> bool:
    """Say whether llama.cpp, as it was built, finds anything but CPUs to compute on."""
    from xllamacpp import get_device_info, ggml_backend_dev_type

    cpu = ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return any(device["type"] != cpu for device in get_device_info())


class LlamaCppTokenizer:
    """llama.cpp's own tokenizer, the reference for the ones that chatkit builds."""

    def __init__(self, address: str, key: str) -> None:
        self._address = address
        self._key = key

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Turn text into ids; `specials` makes control tokens' spellings into control tokens."""
        body = {"content": text, "add_special": False, "parse_special": specials}
        return [int(id) for id in self._post("/tokenize", body)["tokens"]]

    def chat_text(self, messages: list[dict[str, str]]) -> str:
        """Render messages with the chat template inside the GGUF, as llama.cpp understands it."""
        return str(self._post("/apply-template", {"messages": messages})["prompt"])

    def _post(self, route: str, body: object) -> "dict[str, list[int]]":
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"}
        answer = httpx.post(self._address + route, json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        value: dict[str, list[int]] = answer.json()
        return value


@contextmanager
def llamacpp_tokenizer(gguf: Path) -> Iterator[LlamaCppTokenizer]:
    """Load a GGUF just far enough to ask llama.cpp for tokens.

    Raises:
        ModelFileError: llama.cpp cannot load the file.
    """
    CommonParams, Server = import_xllamacpp()
    parameters, key = CommonParams(), secrets.token_hex()
    parameters.model.path = str(gguf)
    parameters.n_ctx = 64
    parameters.n_parallel = 1
    parameters.warmup = False
    parameters.no_extra_bufts = True
    parameters.port = 0
    parameters.ui = False
    parameters.api_keys = [key]
    parameters.verbosity = -1
    try:
        server = Server(parameters)
    except RuntimeError:
        raise ModelFileError(
            f"llama.cpp cannot load {gguf.name}; the file is corrupt or of an unknown kind."
        ) from None
    yield LlamaCppTokenizer(server.listening_address, key)
