"""Asks the model that is being trained, greedily and all questions at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chatkit.template import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def greedy_answers(
    model: "PreTrainedModel", template: ChatTemplate, prompts: Sequence[Sequence[int]], most: int
) -> list[str]:
    """Give the likeliest answers to some prompts, as text.

    Args: as `greedy_ids`.
    """
    ends = _ends(template)
    answers = greedy_ids(model, template, prompts, most)
    decode = template.tokenizer.decode
    return [decode([id for id in answer if id not in ends]) for answer in answers]


def greedy_ids(
    model: "PreTrainedModel", template: ChatTemplate, prompts: Sequence[Sequence[int]], most: int
) -> list[list[int]]:
    """Give the likeliest answers to some prompts, each with the token that ended it.

    Args:
        model: on any device; it is left in the mode that it was in.
        template: tells which tokens end an answer.
        prompts: token ids of each.
        most: tokens of the longest answer.
    """
    import torch

    ends = _ends(template)
    answers: list[list[int]] = []
    was_training, cached = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    try:
        with torch.no_grad():
            for batch in _batches(prompts):
                answers += _answer(model, batch, most, ends)
    finally:
        model.config.use_cache = cached
        model.train(was_training)
    return answers


def _batches(prompts: Sequence[Sequence[int]], size: int = 16) -> list[Sequence[Sequence[int]]]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


def _answer(
    model: Any,
    prompts: Sequence[Sequence[int]],
    most: int,
    ends: Sequence[int],
) -> list[list[int]]:
    import torch

    width = max(map(len, prompts))
    padded = [[ends[0]] * (width - len(ids)) + list(ids) for ids in prompts]
    seen = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    written = model.generate(
        input_ids=torch.tensor(padded, device=model.device),
        attention_mask=torch.tensor(seen, device=model.device),
        max_new_tokens=most,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
    )
    rows = written[:, width:].tolist()
    return [row[: next((n + 1 for n, id in enumerate(row) if id in ends), None)] for row in rows]


def _ends(template: ChatTemplate) -> list[int]:
    return sorted(token.id for token in template.tokenizer.control.values())
