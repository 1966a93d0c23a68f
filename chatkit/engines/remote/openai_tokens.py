"""The tokens of an answer as servers with OpenAI's wire tell them."""

from collections.abc import Mapping, Sequence
from typing import Any

from chatkit.engine import Chance, WrittenToken
from chatkit.tokenizer import Tokenizer


def written_tokens(
    choice: Mapping[str, Any], tokenizer: Tokenizer, most: int | None
) -> tuple[WrittenToken, ...]:
    """Read the tokens of a piece of an answer, in either of the two forms that there are.

    Args:
        choice: a choice of an event.
        tokenizer: makes ids of the texts of tokens whose ids are not told.
        most: how many of the likeliest to keep beside each; None when nothing was asked for.
    """
    logprobs = choice.get("logprobs")
    if most is None or not isinstance(logprobs, dict):
        return ()
    told = choice.get("token_ids")
    if isinstance(logprobs.get("content"), list):
        return _from_content(logprobs["content"], tokenizer, most)
    texts = _list(logprobs, "tokens")
    chances, likeliest = _list(logprobs, "token_logprobs"), _list(logprobs, "top_logprobs")
    ids = told if isinstance(told, list) else [_id(text, tokenizer) for text in texts]
    found = []
    for place, id in enumerate(ids):
        logprob = chances[place] if place < len(chances) else None
        best = likeliest[place] if place < len(likeliest) else None
        found.append(WrittenToken(id, logprob, _best(best or {}, tokenizer, most)))
    return tuple(found)


def _from_content(
    content: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, most: int
) -> tuple[WrittenToken, ...]:
    return tuple(
        WrittenToken(
            _told_id(one, tokenizer),
            one.get("logprob"),
            tuple(
                Chance(_told_id(best, tokenizer), float(best["logprob"]))
                for best in (one.get("top_logprobs") or ())[:most]
            ),
        )
        for one in content
    )


def _told_id(token: Mapping[str, Any], tokenizer: Tokenizer) -> int:
    id = token.get("id")
    return id if isinstance(id, int) else _id(str(token.get("token", "")), tokenizer)


def _best(told: Mapping[str, float], tokenizer: Tokenizer, most: int) -> tuple[Chance, ...]:
    chances = [Chance(_id(text, tokenizer), logprob) for text, logprob in told.items()]
    return tuple(sorted(chances, key=lambda chance: -chance.logprob)[:most])


def _id(text: str, tokenizer: Tokenizer) -> int:
    """Give the id that a token's text has; the last one where it is written by several."""
    if text in tokenizer.control:
        return tokenizer.control[text].id
    tokens = tokenizer.encode(text, begins=False)
    return tokens[-1].id if tokens else 0


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []
