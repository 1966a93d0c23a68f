"""How likely given texts are, many at once, with every token computed once.

What all prompts begin with is read once and kept. Behind it, prompts and their continuations stand
in one row, where a mask lets each continuation see its own prompt and itself: a tree of texts as
one text (Cai 2024, Medusa, for the mask). Logits are computed where a continuation is predicted,
and nowhere else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# A row has so many tokens; more make masks that cost more than they save.
ROW_TOKENS = 512
# What is shared by fewer tokens is not worth a cache.
_WORTH = 8

Ids = tuple[int, ...]


class Continuation(NamedTuple):
    """A text after a prompt.

    Args:
        prompt: the prompt's token ids, at least one.
        added: the continuation's token ids, at least one.
    """

    prompt: Ids
    added: Ids


class Likelihood(NamedTuple):
    """How likely a continuation is.

    Args:
        logprob: the sum over its tokens, in nats.
        greedy: whether each of its tokens is the likeliest in its place.
    """

    logprob: float
    greedy: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """A prompt's own part, with the continuations that it has."""

    prompt: Ids
    added: tuple[Ids, ...]

    @property
    def tokens(self) -> int:
        """How many are read: the last token of a continuation predicts nothing that counts."""
        return len(self.prompt) + sum(len(one) - 1 for one in self.added)


def score_continuations(
    model: "PreTrainedModel", wanted: Sequence[Continuation]
) -> list[Likelihood]:
    """Tell how likely each continuation is after its prompt.

    Args:
        model: a causal language model in evaluation mode.
        wanted: in any order.
    """
    import torch

    if not wanted:
        return []
    grouped: dict[Ids, dict[Ids, None]] = {}
    for prompt, added in wanted:
        grouped.setdefault(prompt, {})[added] = None
    head = _shared_head(list(grouped))
    groups = [_Group(prompt[len(head) :], tuple(added)) for prompt, added in grouped.items()]
    found: dict[tuple[Ids, Ids], Likelihood] = {}
    with torch.inference_mode():
        cache = _read(model, head)
        for row in _rows(sorted(groups, key=lambda group: group.tokens)):
            for group, likelihoods in zip(row, _score_row(model, head, cache, row), strict=True):
                for added, likelihood in zip(group.added, likelihoods, strict=True):
                    found[head + group.prompt, added] = likelihood
    return [found[prompt, added] for prompt, added in wanted]


def _shared_head(prompts: list[Ids]) -> Ids:
    if len(prompts) < 2:
        return ()
    # What the first and the last in order share, all between them share too.
    first, last = min(prompts), max(prompts)
    differ = (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    shared = next(differ, min(len(first), len(last)))
    # A prompt keeps a token of its own, which predicts the first one of a continuation.
    head = first[: min(shared, min(map(len, prompts)) - 1)]
    return head if len(head) >= _WORTH else ()


def _read(model: "PreTrainedModel", head: Ids) -> Any:
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    if head:
        ids = torch.tensor([head], device=model.device)
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def _rows(groups: list[_Group]) -> Iterator[list[_Group]]:
    row: list[_Group] = []
    taken = 0
    for group in groups:
        if row and taken + group.tokens > ROW_TOKENS:
            yield row
            row, taken = [], 0
        row.append(group)
        taken += group.tokens
    if row:
        yield row


def _score_row(
    model: "PreTrainedModel", head: Ids, cache: Any, row: list[_Group]
) -> list[list[Likelihood]]:
    """Read one row, and give the likelihoods of each group's continuations."""
    import torch

    ids: list[int] = []
    positions: list[int] = []
    # For each token, the spans of the row that it sees besides what is before it in its own span.
    spans: list[tuple[int, int, int, int]] = []
    asked: list[list[list[int]]] = []
    for group in row:
        start = len(ids)
        ids += group.prompt
        positions += range(len(head), len(head) + len(group.prompt))
        spans.append((start, len(ids), start, start))
        last = len(ids) - 1
        places = []
        for added in group.added:
            begin = len(ids)
            ids += added[:-1]
            after = len(head) + len(group.prompt)
            positions += range(after, after + len(added) - 1)
            spans.append((begin, len(ids), start, last + 1))
            places.append([last, *range(begin, len(ids))])
        asked.append(places)
    needed = sorted({place for places in asked for one in places for place in one})
    where = {place: index for index, place in enumerate(needed)}
    device = model.device
    logits = model(
        input_ids=torch.tensor([ids], device=device),
        attention_mask=_mask(spans, len(ids), len(head), model),
        position_ids=torch.tensor([positions], device=device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=torch.tensor(needed, device=device),
    ).logits[0]
    cache.crop(len(head))
    chances = logits.float().log_softmax(-1)
    best = chances.argmax(-1)
    return [
        [
            _likelihood(chances, best, [where[place] for place in one], added)
            for one, added in zip(places, group.added, strict=True)
        ]
        for group, places in zip(row, asked, strict=True)
    ]


def _mask(
    spans: list[tuple[int, int, int, int]], tokens: int, head: int, model: "PreTrainedModel"
) -> "torch.Tensor":
    """Say who sees whom, (1, 1, tokens, head and tokens): 0, or as good as minus infinity."""
    import torch

    seen = torch.zeros(tokens, head + tokens, dtype=torch.bool)
    seen[:, :head] = True
    for begin, end, first, last in spans:
        size = end - begin
        own = torch.ones(size, size, dtype=torch.bool).tril()
        seen[begin:end, head + begin : head + end] = own
        seen[begin:end, head + first : head + last] = True
    mask = torch.zeros(seen.shape, dtype=model.dtype)
    return mask.masked_fill(~seen, torch.finfo(model.dtype).min)[None, None].to(model.device)


def _likelihood(
    chances: "torch.Tensor", best: "torch.Tensor", places: list[int], added: Ids
) -> Likelihood:
    import torch

    at = torch.tensor(places, device=chances.device)
    said = torch.tensor(added, device=chances.device)
    logprob = float(chances[at, said].sum())
    return Likelihood(logprob, bool((best[at] == said).all()))
