"""The replies of OpenAI's API, and the frames of their streams.

Source: OpenAI API reference; text-generation-inference v3.3.7, router/src/lib.rs.
"""

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

import chatkit
from chatkit.engine import Usage, WrittenToken
from chatkit.tokenizer import Tokenizer
from serve.wire.events import event

FINGERPRINT = f"{chatkit.__version__}-chatkit"


class ChatFrames:
    """Writes the frames of one chat stream; most of a frame never changes.

    Args:
        model: the name that was asked for.
        tokenizer: knows the tokens' texts.
        dialect: write `tool_calls: null`, without which the `text_generation` package fails.
    """

    def __init__(self, model: str, tokenizer: Tokenizer, *, dialect: bool = False) -> None:
        self._tokenizer = tokenizer
        self._empty = {"tool_calls": None} if dialect else {}
        self._shared = {
            "object": "chat.completion.chunk",
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }
        self._pieces: dict[int, tuple[bytes, bytes]] = {}

    def text(self, index: int, text: str) -> bytes:
        """Give the frame of some text of a choice."""
        before, after = self._pieces.get(index) or self._frame_of(index)
        return before + json.dumps(text).encode() + after

    def told(self, index: int, text: str, tokens: Sequence[WrittenToken]) -> bytes:
        """Give the frame of some text with its tokens' probabilities."""
        logprobs = chat_logprobs(tokens, self._tokenizer)
        return self._event(index, {"content": text, **self._empty}, None, logprobs)

    def call(self, index: int, call: dict[str, Any]) -> bytes:
        """Give the frame of a call of a tool."""
        return self._event(index, {"tool_calls": [{"index": 0, **call}]}, None, None)

    def end(self, index: int, finish: str, tokens: Sequence[WrittenToken] = ()) -> bytes:
        """Give the last frame of a choice."""
        logprobs = chat_logprobs(tokens, self._tokenizer) if tokens else None
        return self._event(index, {"content": "", **self._empty}, finish, logprobs)

    def usage(self, usages: Sequence[Usage]) -> bytes:
        """Give the frame that tells what it took."""
        return event({**self._shared, "choices": [], "usage": usage_of(usages)})

    def _event(self, index: int, delta: dict[str, Any], finish: str | None, logprobs: Any) -> bytes:
        choice = {
            "index": index,
            "delta": {"role": "assistant", **delta},
            "logprobs": logprobs,
            "finish_reason": finish,
        }
        return event({**self._shared, "choices": [choice], "usage": None})

    def _frame_of(self, index: int) -> tuple[bytes, bytes]:
        mark = "\x00"
        frame = self._event(index, {"content": mark, **self._empty}, None, None)
        before, _, after = frame.partition(json.dumps(mark).encode())
        self._pieces[index] = (before, after)
        return before, after


class CompletionFrames:
    """Writes the frames of one stream of completions.

    Args:
        model: the name that was asked for.
        tokenizer: knows the tokens' texts.
    """

    def __init__(self, model: str, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._shared = completion_head(model)

    def text(
        self,
        index: int,
        text: str,
        finish: str | None,
        tokens: Sequence[WrittenToken] | None,
        ids: list[int] | None,
    ) -> bytes:
        """Give the frame of some text of a choice; see `completion_choice`."""
        choice = completion_choice(index, text, finish, tokens, ids, self._tokenizer)
        return event({**self._shared, "choices": [choice], "usage": None})

    def usage(self, usages: Sequence[Usage]) -> bytes:
        """Give the frame that tells what it took."""
        return event({**self._shared, "choices": [], "usage": usage_of(usages)})


def chat_reply(model: str, choices: list[dict[str, Any]], usages: Sequence[Usage]) -> Any:
    """Give a whole chat reply."""
    return {
        "object": "chat.completion",
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
        "usage": usage_of(usages),
    }


def completion_head(model: str) -> dict[str, Any]:
    """Give what all completions of a request have in common."""
    return {
        "object": "text_completion",
        "id": f"cmpl-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }


def completion_choice(
    index: int,
    text: str,
    finish: str | None,
    tokens: Sequence[WrittenToken] | None,
    ids: list[int] | None,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """Give one completion.

    Args:
        index: its number.
        text: what was written.
        finish: why it ended; None before that.
        tokens: its tokens when their probabilities are told, else None.
        ids: the tokens' ids when they are told, else None.
        tokenizer: knows the tokens' texts.
    """
    logprobs = None
    if tokens is not None:
        texts = [_text(token.id, tokenizer) for token in tokens]
        logprobs = {
            "tokens": texts,
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [
                {_text(chance.id, tokenizer): chance.logprob for chance in token.likeliest}
                for token in tokens
            ],
            "text_offset": [sum(map(len, texts[:place])) for place in range(len(texts))],
        }
    choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
    return choice if ids is None else {**choice, "token_ids": ids}


def chat_logprobs(tokens: Sequence[WrittenToken], tokenizer: Tokenizer) -> dict[str, Any]:
    """Give tokens with their probabilities; the token that ends an answer is no part of it."""
    return {
        "content": [
            {
                **_chance(token.id, token.logprob, tokenizer),
                "top_logprobs": [
                    _chance(chance.id, chance.logprob, tokenizer) for chance in token.likeliest
                ],
            }
            for token in tokens
        ]
    }


def usage_of(usages: Sequence[Usage]) -> dict[str, Any]:
    """Give the token counts of a request's answers."""
    read = sum(usage.prompt_tokens for usage in usages)
    written = sum(usage.completion_tokens for usage in usages)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in usages)},
    }


def _chance(id: int, logprob: float | None, tokenizer: Tokenizer) -> dict[str, Any]:
    text = _text(id, tokenizer)
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _text(id: int, tokenizer: Tokenizer) -> str:
    return tokenizer.decode([id])
