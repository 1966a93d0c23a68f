"""Text to token ids and back, with control tokens kept strictly apart from text."""

import json
import sys
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from chatkit.errors import ModelFileError
from chatkit.remembered import Remembered

if TYPE_CHECKING:
    import tokenizers

REMEMBERED_BYTES = 32 * 1024 * 1024
_ENTRY_BYTES = 600


class Token(NamedTuple):
    """A token id and the characters it covers: `text[start:end]`."""

    id: int
    start: int
    end: int


class Encoded(NamedTuple):
    """The tokens of a text as columns: 12 bytes for each token, since many are remembered."""

    ids: "array[int]"
    starts: "array[int]"
    ends: "array[int]"


@dataclass(frozen=True, slots=True)
class ControlToken:
    """A token that only a template may write; `lstrip`/`rstrip` swallow spaces beside it."""

    text: str
    id: int
    lstrip: bool
    rstrip: bool


class Tokenizer:
    """A model's tokenizer: what `tokenizer.json` and `tokenizer_config.json` say.

    Args:
        definition: the text of `tokenizer.json`; as text, since its hundred thousand entries
            are the backend's to hold, once.
        config: the content of `tokenizer_config.json`.
        chat_template: the Jinja text of the model's chat template, None when it ships none.
    """

    def __init__(
        self, definition: str, config: Mapping[str, Any], chat_template: str | None
    ) -> None:
        self.chat_template = chat_template
        self.bos = _token_text(config.get("bos_token"))
        self.eos = _token_text(config.get("eos_token"))
        self._first = _backend(definition)
        self._later = (
            _backend(_without_leading_space(definition))
            if '"Metaspace"' in definition
            else self._first
        )
        self.control = {
            token.content: ControlToken(token.content, id, token.lstrip, token.rstrip)
            for id, token in self._first.get_added_tokens_decoder().items()
            if token.special
        }
        self._pieces: Remembered[tuple[str, bool], Encoded] = Remembered(REMEMBERED_BYTES)

    @cached_property
    def _raw(self) -> "tokenizers.Tokenizer":
        backend = _backend(self._first.to_str())
        backend.encode_special_tokens = False
        return backend

    @cached_property
    def vocabulary_size(self) -> int:
        """How many ids there are, added tokens included."""
        return int(self._first.get_vocab_size())

    @property
    def vocabulary(self) -> dict[str, int]:
        """The ids by the texts of tokens, added tokens included."""
        found: dict[str, int] = self._first.get_vocab()
        return found

    def encode(self, text: str, *, begins: bool = True) -> list[Token]:
        """Turn plain text into tokens; a control token's spelling is text like any other.

        Args:
            text: the text.
            begins: whether the text stands at the very beginning of the input, where
                SentencePiece models put a space in front.
        """
        encoding = self._encode(text, begins)
        return [Token(id, *span) for id, span in zip(encoding.ids, encoding.offsets, strict=True)]

    def encode_raw(self, text: str) -> list[Token]:
        """Turn a hand-written prompt into tokens, as the model's own tokenizer does.

        Spellings of control tokens are control tokens, and a begin token is added where the
        model's tokenizer adds one.
        """
        encoding = self._raw.encode(text)
        return [Token(id, *span) for id, span in zip(encoding.ids, encoding.offsets, strict=True)]

    def encode_piece(self, text: str, *, begins: bool) -> Encoded:
        """Encode a piece of a prompt and remember it: the next turn has most of them again.

        Args: as `encode`.
        """
        found = self._pieces.get((text, begins))
        if found is None:
            encoding = self._encode(text, begins)
            starts, ends = zip(*encoding.offsets, strict=True) if encoding.offsets else ((), ())
            found = Encoded(array("I", encoding.ids), array("I", starts), array("I", ends))
            size = _ENTRY_BYTES + sys.getsizeof(text) + 12 * len(found.ids)
            self._pieces.put((text, begins), found, size)
        return found

    def count(self, text: str) -> int:
        """Count the tokens of a text that stands somewhere inside a prompt."""
        return len(self._encode(text, begins=False))

    def forget(self) -> None:
        """Forget all pieces, as when what people wrote was erased."""
        self._pieces.forget()

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into text, leaving control tokens out."""
        return str(self._first.decode(list(ids), skip_special_tokens=True))

    def decoder(self) -> "StreamDecoder":
        """Begin to decode a stream of ids one by one."""
        return StreamDecoder(self._first)

    def _encode(self, text: str, begins: bool) -> "tokenizers.Encoding":
        return (self._first if begins else self._later).encode(text, add_special_tokens=False)


class StreamDecoder:
    """Turns ids into text as they come; holds back characters that are not whole yet."""

    def __init__(self, backend: "tokenizers.Tokenizer") -> None:
        from tokenizers.decoders import DecodeStream

        self._backend = backend
        self._stream = DecodeStream(skip_special_tokens=True)

    def step(self, id: int) -> str:
        """Take one id, give the text that it completes (perhaps none)."""
        return self._stream.step(self._backend, id) or ""


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer of a checkpoint folder.

    Args:
        folder: holds `tokenizer.json`, `tokenizer_config.json` and perhaps
            `chat_template.jinja`, which goes before a template inside the configuration.

    Raises:
        ModelFileError: a file is missing or is not what it should be.
    """
    definition = _read_text(folder / "tokenizer.json")
    config = _read_json(folder / "tokenizer_config.json")
    jinja = folder / "chat_template.jinja"
    template = jinja.read_text("utf-8") if jinja.exists() else config.get("chat_template")
    if isinstance(template, list):
        template = next((t["template"] for t in template if t["name"] == "default"), None)
    try:
        return Tokenizer(definition, config, template)
    except Exception as error:
        raise ModelFileError(
            f"The tokenizer in {folder} cannot be read ({error}); pull the model again."
        ) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"The tokenizer file {path} cannot be read ({error}); pull the model again."
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read_text(path))
    except ValueError as error:
        raise ModelFileError(
            f"The tokenizer file {path} cannot be read ({error}); pull the model again."
        ) from None
    if not isinstance(value, dict):
        raise ModelFileError(f"The tokenizer file {path} holds no object; pull the model again.")
    return value


def _backend(definition: str) -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(definition)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _without_leading_space(definition: str) -> str:
    """Give the definition for text after a control token, where `first` puts no space."""

    def changed(part: Any) -> Any:
        if isinstance(part, list):
            return [changed(item) for item in part]
        if not isinstance(part, dict):
            return part
        if part.get("type") == "Metaspace" and part.get("prepend_scheme") == "first":
            return {**part, "prepend_scheme": "never"}
        return {key: changed(value) for key, value in part.items()}

    value = json.loads(definition)
    return json.dumps({**value, "pre_tokenizer": changed(value.get("pre_tokenizer"))})


def _token_text(token: dict[str, Any] | str | None) -> str | None:
    return str(token["content"]) if isinstance(token, dict) else token
