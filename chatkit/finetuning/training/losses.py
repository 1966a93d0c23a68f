"""The loss of the trained tokens, from the logits of those tokens alone."""

from typing import TYPE_CHECKING, NamedTuple

from chatkit.finetuning.masking import IGNORED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.nn import Module


class Needed(NamedTuple):
    """What a model says where something is trained.

    Args:
        logits: of the tokens before trained ones, of shape (tokens, vocabulary).
        targets: the trained tokens, of shape (tokens,).
    """

    logits: "Tensor"
    targets: "Tensor"


def needed_logits(model: "Module", inputs: "Mapping[str, Tensor]") -> Needed:
    """Compute only the logits that the loss needs: most of a chat is not trained.

    Args:
        model: of a language.
        inputs: `input_ids`, `labels` and `position_ids`, each of shape (1, tokens).
    """
    targets = inputs["labels"][0, 1:]
    places = (targets != IGNORED).nonzero()[:, 0]
    logits = model(
        input_ids=inputs["input_ids"],
        position_ids=inputs["position_ids"],
        logits_to_keep=places,
        use_cache=False,
    ).logits[0]
    return Needed(logits, targets[places])


def negative_log_likelihood(needed: Needed) -> "Tensor":
    """Add up how surprising the trained tokens are, in nats."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(needed.logits.float(), needed.targets, reduction="sum")
