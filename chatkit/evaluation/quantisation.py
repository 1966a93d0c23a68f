"""What quantisation changes: a model beside its reference precision, token by token.

Along the reference's own greedy answers the other model is asked for one token at a time. That
needs the likeliest tokens only, so engines that score no text can be measured too. Where both score
text, the perplexity of those answers stands beside it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from chatkit.engine import Chance, Engine, WrittenToken
from chatkit.errors import InputError, Unsupported
from chatkit.messages import user
from chatkit.prompt import Prompt, build_prompt
from chatkit.sampling import Sampling

LIKELIEST = 20
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a model is from its reference.

    Args:
        steps: tokens that were compared.
        agreement: the share of them that both find likeliest.
        divergence: the mean Kullback-Leibler divergence in nats, of the reference's likeliest
            tokens with all others taken as one; the true one is no smaller.
        worst: the largest divergence of a step.
        perplexities: of the reference's answers, in its own eyes and in the other's; None where
            an engine scores no text.
    """

    steps: int
    agreement: float
    divergence: float
    worst: float
    perplexities: tuple[float, float] | None = None


async def measure_drift(
    reference: Engine, model: Engine, prompts: Sequence[str], *, tokens: int = 24
) -> Drift:
    """Compare a model with its reference on someone's own prompts.

    Args:
        reference: the same model in its reference precision.
        model: the one that is judged.
        prompts: questions.
        tokens: of each answer, at most.

    Raises:
        InputError: there are no prompts, or the two have different chat templates.
        Unsupported: an engine tells no likelihoods of what it writes.
    """
    if not prompts:
        raise InputError("There are no prompts to compare on; give some of your own.")
    if reference.template.identity != model.template.identity:
        raise InputError(
            f"{reference.name} has the chat template {reference.template.identity} and "
            f"{model.name} {model.template.identity}, so they read different prompts; compare a "
            "model with its own reference."
        )
    agreed: list[bool] = []
    divergences: list[float] = []
    answers: list[tuple[Prompt, tuple[int, ...]]] = []
    for text in prompts:
        prompt = build_prompt(reference.template, [user(text)])
        answer = await _written(reference, prompt, tokens)
        answers.append((prompt, tuple(token.id for token in answer)))
        for place, token in enumerate(answer):
            before = tuple(one.id for one in answer[:place])
            (other,) = await _written(model, _continued(prompt, before), 1)
            agreed.append(other.likeliest[0].id == token.likeliest[0].id)
            divergences.append(divergence(token.likeliest, other.likeliest))
    perplexities = await _perplexities((reference, model), answers)
    return Drift(len(agreed), fmean(agreed), fmean(divergences), max(divergences), perplexities)


def divergence(wanted: Sequence[Chance], found: Sequence[Chance]) -> float:
    """Give the divergence of two distributions of which the likeliest tokens are known.

    Args:
        wanted: the reference's likeliest tokens.
        found: the other's; a token that it does not name is taken as likely as its last one.
    """
    other: Mapping[int, float] = {chance.id: math.exp(chance.logprob) for chance in found}
    floor = min(other.values())
    pairs = [(math.exp(one.logprob), other.get(one.id, floor)) for one in wanted]
    rest = [max(_TINY, 1 - sum(side)) for side in zip(*pairs, strict=True)]
    pairs.append((rest[0], rest[1]))
    return max(0.0, sum(p * math.log(p / max(q, _TINY)) for p, q in pairs if p > 0))


async def _perplexities(
    engines: tuple[Engine, Engine], answers: Sequence[tuple[Prompt, tuple[int, ...]]]
) -> tuple[float, float] | None:
    try:
        first, second = [await _perplexity(engine, answers) for engine in engines]
    except Unsupported:
        return None
    return first, second


async def _perplexity(engine: Engine, answers: Sequence[tuple[Prompt, tuple[int, ...]]]) -> float:
    told: list[float] = []
    for prompt, ids in answers:
        chances = await engine.prompt_logprobs(_continued(prompt, ids))
        told += [chance or 0.0 for chance in chances[len(prompt.ids) :]]
    return math.exp(-fmean(told))


async def _written(engine: Engine, prompt: Prompt, tokens: int) -> list[WrittenToken]:
    sampling = Sampling(
        temperature=0, max_tokens=tokens, logprobs=LIKELIEST, repetition_penalty=1.0
    )
    found: list[WrittenToken] = []
    async for delta in engine.stream(prompt, sampling):
        found += delta.tokens
    if not found or not all(token.likeliest for token in found):
        raise Unsupported(
            f"{engine.name} tells no likelihoods of what it writes; use a model that runs here."
        )
    return found[:tokens]


def _continued(prompt: Prompt, ids: tuple[int, ...]) -> Prompt:
    """Go on from the middle of an answer; only engines that are given ids can."""
    return Prompt((*prompt.ids, *ids), prompt.text, (), prompt.identity)
