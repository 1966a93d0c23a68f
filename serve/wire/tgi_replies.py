"""TGI's replies, key by key.

Source: text-generation-inference v3.3.7, router/src/lib.rs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from chatkit.tokenizer import Token, Tokenizer
from serve.wire.metrics import Times
from serve.wire.writing import Written

COMPUTE_TYPE = "cpu"


class Shapes:
    """Writes tokens as JSON values.

    Args:
        tokenizer: knows the tokens' texts.
        special: the texts of control tokens by their ids.
    """

    def __init__(self, tokenizer: Tokenizer, special: Mapping[int, str]) -> None:
        self._tokenizer = tokenizer
        self._special = special

    def token(self, written: Written) -> dict[str, Any]:
        """Give a written token."""
        return {
            "id": written.id,
            "text": written.text,
            "logprob": written.logprob,
            "special": written.special,
        }

    def likeliest(self, written: Written) -> list[dict[str, Any]]:
        """Give the likeliest tokens in a written one's place."""
        return [
            {
                "id": chance.id,
                "text": self._special.get(chance.id) or self._tokenizer.decode([chance.id]),
                "logprob": chance.logprob,
                "special": chance.id in self._special,
            }
            for chance in written.likeliest
        ]

    def event(
        self, index: int, written: Written, top: bool, final: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Give an event of a stream.

        Args:
            index: the token's number, from 1.
            written: the token.
            top: whether the likeliest tokens were asked for.
            final: `generated_text` and `details` of the last event.
        """
        ending = final or {"generated_text": None, "details": None}
        tokens = {"top_tokens": self.likeliest(written)} if top else {}
        return {"index": index, "token": self.token(written), **tokens, **ending}

    def details(
        self,
        answer: Sequence[Written],
        prefill: list[dict[str, Any]],
        seed: int | None,
        top: bool,
    ) -> dict[str, Any]:
        """Give the details of a whole answer."""
        details: dict[str, Any] = {
            "finish_reason": answer[-1].ending,
            "generated_tokens": len(answer),
            "seed": seed,
            "prefill": prefill,
            "tokens": [self.token(written) for written in answer],
        }
        if top:
            details["top_tokens"] = [self.likeliest(written) for written in answer]
        return details


def text_of(answer: Sequence[Written]) -> str:
    """Give an answer's text, without control tokens."""
    return "".join(written.text for written in answer if not written.special)


def prefill_of(
    text: str, tokens: Sequence[Token], logprobs: Sequence[float | None]
) -> list[dict[str, Any]]:
    """Give the prompt's tokens with their log-probabilities."""
    return [
        {"id": token.id, "text": text[token.start : token.end], "logprob": logprob}
        for token, logprob in zip(tokens, logprobs, strict=True)
    ]


def tokens_of(text: str, tokens: Sequence[Token]) -> list[dict[str, Any]]:
    """Give a text's tokens with the places that they cover."""
    return [
        {
            "id": token.id,
            "text": text[token.start : token.end],
            "start": token.start,
            "stop": token.end,
        }
        for token in tokens
    ]


def headers_of(times: Times, characters: int, read: int, written: int) -> dict[str, str]:
    """Give the headers that tell what an answer took.

    Args:
        times: the seconds of its parts.
        characters: the length of the prompt.
        read: tokens of the prompt.
        written: tokens of the answer.
    """
    return {
        "x-compute-type": COMPUTE_TYPE,
        "x-compute-time": f"{times.total:.6f}",
        "x-compute-characters": str(characters),
        "x-total-time": _milliseconds(times.total),
        "x-validation-time": _milliseconds(times.validation),
        "x-queue-time": _milliseconds(times.queue),
        "x-inference-time": _milliseconds(times.inference),
        "x-time-per-token": _milliseconds(times.per_token(written)),
        "x-prompt-tokens": str(read),
        "x-generated-tokens": str(written),
    }


def stream_headers(characters: int) -> dict[str, str]:
    """Give the headers that a stream begins with."""
    return {"x-compute-type": COMPUTE_TYPE, "x-compute-characters": str(characters)}


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
