"""Attention of a packed row, in which each example sees itself alone.

A mask over the whole row costs the square of its length, most of which is masked; one call per
example costs the squares of the examples' lengths, and needs no mask.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "sdpa_by_example"


def attend_by_example(model: "PreTrainedModel") -> bool:
    """Let a model that attends with PyTorch's kernels attend to one example at a time.

    Other kernels, and layers that see a window of the row only, stay as they are.

    Args:
        model: changed in place; from then on it takes `example_lengths`.

    Returns:
        Whether it was changed.
    """
    config: Any = model.config
    windowed = config.to_dict().get("sliding_window") is not None
    if config._attn_implementation != "sdpa" or windowed:
        return False
    model.set_attn_implementation(NAME)
    return True


# What else transformers hands to every kernel goes on to PyTorch's.
def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    example_lengths: list[int] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend; without lengths, as when an answer is generated, the mask says who sees whom.

    Args:
        module: the layer.
        query: of shape (1, heads, tokens, head size), as key and value.
        key: as the query.
        value: as the query.
        attention_mask: of the whole row.
        example_lengths: in tokens.
        options: what else transformers hands to every kernel.
    """
    if example_lengths is None:
        whole: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return whole
    cut = (states.split(example_lengths, dim=2) for states in (query, key, value))
    seen = [
        sdpa_attention_forward(module, its_query, its_key, its_value, None, **options)[0]
        for its_query, its_key, its_value in zip(*cut, strict=True)
    ]
    return torch.cat(seen, dim=1), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
