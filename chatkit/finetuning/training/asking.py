"""Asks the model that is being trained, greedily and all questions at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chatkit.template import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def greedy_answers(
    model: "PreTrainedModel", template: ChatTemplate, prompts: Sequence[Sequence[int]], most: int
) -> list[str]:
    """Give the likeliest answers to some prompts.

    Args:
        model: on any device; it is left in the mode that it was in.
        template: tells which tokens end an answer.
        prompts: token ids of each.
        most: tokens of the longest answer.
    """
    import torch

    tokenizer = template.tokenizer
    ends = sorted(token.id for token in tokenizer.control.values())
    answers: list[str] = []
    was_training, cached = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    try:
        with torch.no_grad():
            for batch in _batches(prompts):
                answers += _answer(model, batch, most, ends, tokenizer.decode)
    finally:
        model.config.use_cache = cached
        model.train(was_training)
    return answers


def _batches(prompts: Sequence[Sequence[int]], size: int = 16) -> list[Sequence[Sequence[int]]]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


def _answer(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    most: int,
    ends: Sequence[int],
    decode: Any,
) -> list[str]:
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
    texts: list[str] = []
    for row in written[:, width:].tolist():
        end = next((n for n, id in enumerate(row) if id in ends), len(row))
        texts.append(decode(row[:end]))
    return texts
