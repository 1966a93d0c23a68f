"""The loss of the trained tokens, from the logits of those tokens alone."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from chatkit.finetuning.masking import IGNORED

# So few rows of the vocabulary's width are worked on in 32 bits at once.
ROWS_AT_ONCE = 32


class Needed(NamedTuple):
    """What a model says where something is trained.

    Args:
        logits: of the tokens before trained ones, of shape (tokens, vocabulary).
        targets: the trained tokens, of shape (tokens,).
    """

    logits: Tensor
    targets: Tensor


def needed_logits(model: Module, inputs: Mapping[str, Any]) -> Needed:
    """Compute only the logits that the loss needs: most of a chat is not trained.

    Args:
        model: of a language.
        inputs: `input_ids`, `labels` and `position_ids`, each of shape (1, tokens), and what
            else the model takes.
    """
    targets = inputs["labels"][0, 1:]
    places = (targets != IGNORED).nonzero()[:, 0]
    asked = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**asked, logits_to_keep=places, use_cache=False).logits.squeeze(0)
    return Needed(logits, targets[places])


def negative_log_likelihood(needed: Needed, *, spend: bool = False) -> Tensor:
    """Add up how surprising the trained tokens are, in nats.

    Args:
        needed: what the model says.
        spend: whether the logits are needed no more, so that their gradient takes their place.
    """
    nats: Tensor = _Surprise.apply(  # type: ignore[no-untyped-call]
        needed.logits, needed.targets, spend
    )
    return nats


class _Surprise(torch.autograd.Function):
    """The summed cross-entropy, with its gradient computed beside it.

    PyTorch's own keeps four tensors of the vocabulary's width where one is enough; logits are the
    largest tensors of a small model's step.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, spend: bool) -> Tensor:
        """Add up the surprise, and keep its gradient."""
        nats = torch.zeros((), dtype=torch.float32, device=logits.device)
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = logits.detach() if spend else torch.empty_like(logits)
        for start in range(0, len(logits), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            surely = logits[rows].float()
            places = targets[rows, None]
            said = surely.gather(1, places)
            total = surely.logsumexp(1, keepdim=True)
            nats += (total - said).sum()
            if gradient is not None:
                share = (surely - total).exp_()
                share.scatter_add_(1, places, torch.full_like(said, -1.0))
                gradient[rows] = share
        ctx.gradient = gradient
        return nats

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        """Give the gradient that was kept; it is used once."""
        gradient, ctx.gradient = ctx.gradient, None
        return gradient.mul_(above[0]), None, None
