"""What a tuned adapter did to its base: preferences, distance, and what should not have changed."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel
    from torch import Tensor


class Said(NamedTuple):
    """A prompt with an answer, as token ids."""

    prompt: list[int]
    answer: list[int]


def preference_effects(model: "PeftModel", pairs: "Dataset") -> dict[str, float]:
    """Compare a policy with its base on held-out pairs.

    An answer is preferred when its mean log-probability per token is the higher one; so long
    answers are not worse by themselves.

    Args:
        model: the adapter on its base; switched off, it is the base.
        pairs: rows with `prompt_ids`, `chosen_ids` and `rejected_ids`.

    Returns: `preference_accuracy_before` and `_after`, from 0 to 1, and `kl_to_base`, in nats per
        token of the chosen answers.
    """
    right = {"before": 0, "after": 0}
    distances: list[float] = []
    for row in pairs:
        sides = [Said(row["prompt_ids"], row[side]) for side in ("chosen_ids", "rejected_ids")]
        after = [_answer_logits(model, side) for side in sides]
        with model.disable_adapter():
            before = [_answer_logits(model, side) for side in sides]
        for name, logits in (("before", before), ("after", after)):
            chosen, rejected = (_mean(said, side) for said, side in zip(logits, sides, strict=True))
            right[name] += chosen > rejected
        distances.append(_divergence(after[0], before[0]))
    shares = {f"preference_accuracy_{name}": hits / len(pairs) for name, hits in right.items()}
    return {**shares, "kl_to_base": sum(distances) / len(distances)}


def thumb_effects(model: "PeftModel", thumbs: "Dataset") -> dict[str, float]:
    """Compare how likely a policy and its base find liked and disliked answers.

    Returns: the change of the mean log-probability per token, in nats, as `liked_change` and
        `disliked_change`, and `kl_to_base` in nats per token.
    """
    changes: dict[bool, list[float]] = {True: [], False: []}
    distances: list[float] = []
    for row in thumbs:
        said = Said(row["prompt_ids"], row["completion_ids"])
        after = _answer_logits(model, said)
        with model.disable_adapter():
            before = _answer_logits(model, said)
        changes[row["label"]].append(_mean(after, said) - _mean(before, said))
        distances.append(_divergence(after, before))
    named = {"liked_change": changes[True], "disliked_change": changes[False]}
    means = {name: sum(found) / len(found) for name, found in named.items() if found}
    return {**means, "kl_to_base": sum(distances) / len(distances)}


def unrelated_effects(model: Any, examples: "Dataset", *, has_adapter: bool) -> dict[str, float]:
    """Measure the perplexity of ordinary answers, with the adapter and without.

    Args:
        model: the tuned one.
        examples: rows with `input_ids` and `labels`.
        has_adapter: whether it can be switched off.

    Returns: `unrelated_perplexity_after`, and `_before` where there is an adapter.
    """
    found = {"unrelated_perplexity_after": _perplexity(model, examples)}
    if has_adapter:
        with model.disable_adapter():
            found["unrelated_perplexity_before"] = _perplexity(model, examples)
    return found


def teacher_effects(
    teacher: Any, examples: "Dataset", first: float, last: float
) -> dict[str, float]:
    """Tell how much of the way from an untaught student to its teacher is done.

    Args:
        teacher: who taught.
        examples: held-out rows.
        first: the student's held-out loss before, in nats per trained token.
        last: its loss now.

    Returns: `teacher_loss` in nats, and `gap_closed`, 1 when the student is as good.
    """
    loss = math.log(_perplexity(teacher, examples))
    return {"teacher_loss": loss, "gap_closed": (first - last) / (first - loss)}


def _perplexity(model: Any, examples: "Dataset") -> float:
    import torch

    from chatkit.finetuning.training.losses import needed_logits, negative_log_likelihood
    from chatkit.finetuning.training.rows import Joiner

    join = Joiner(examples)
    nats, tokens = 0.0, 0
    with torch.no_grad():
        for place in range(len(examples)):
            inputs = join([{"examples": [place]}])
            needed = needed_logits(
                model, {name: value.to(model.device) for name, value in inputs.items()}
            )
            nats += float(negative_log_likelihood(needed))
            tokens += len(needed.targets)
    return math.exp(nats / tokens)


def _answer_logits(model: Any, said: Said) -> "Tensor":
    """Give the log-probabilities before each token of an answer: (tokens, vocabulary)."""
    import torch

    ids = torch.tensor([said.prompt + said.answer], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, logits_to_keep=len(said.answer) + 1).logits[0, :-1]
    likely: Tensor = logits.float().log_softmax(-1)
    return likely


def _mean(logits: "Tensor", said: Said) -> float:
    import torch

    targets = torch.tensor(said.answer, device=logits.device)
    return float(logits.gather(1, targets[:, None]).mean())


def _divergence(policy: "Tensor", base: "Tensor") -> float:
    """Give the mean Kullback-Leibler divergence of a policy from its base, in nats per token."""
    return float((policy.exp() * (policy - base)).sum(-1).mean())
