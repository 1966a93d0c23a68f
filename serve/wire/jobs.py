"""The answers that one request asks for."""

from collections.abc import Sequence
from dataclasses import dataclass

from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from serve.wire.refusals import Refusal, validation
from serve.wire.service import WireService


@dataclass(frozen=True, slots=True)
class Job:
    """One answer that is to be drawn.

    Args:
        index: its number among the request's answers.
        prompt: what is read.
        sampling: how it is drawn.
        adapter: which adapter, None for the base.
        asked: when the request came, by the monotonic clock.
    """

    index: int
    prompt: Prompt
    sampling: Sampling
    adapter: str | None
    asked: float


def jobs_of(
    service: WireService,
    prompts: Sequence[Prompt],
    many: int | None,
    sampling: Sampling,
    model: str | None,
    asked: float,
) -> list[Job]:
    """Make the jobs of a request; of several answers to one prompt each has its own seed.

    Args:
        service: what all routes share.
        prompts: what is read.
        many: how many answers each prompt gets; None for one.
        sampling: how they are drawn.
        model: the name that was asked for.
        asked: when the request came, by the monotonic clock.

    Raises:
        Refusal: there are too many, a prompt is too long, or nothing has this name.
    """
    many, most = 1 if many is None else many, service.options.max_client_batch_size
    if not 1 <= many * len(prompts) <= most:
        raise Refusal(
            validation(f"`n` times the prompts must be >= 1 and <= {most}. Given: {many}")
        )
    adapter = service.adapter(model)
    jobs: list[Job] = []
    for prompt in prompts:
        longest = service.longest_answer(prompt, sampling.max_tokens)
        for number in range(many):
            seed = None if sampling.seed is None else (sampling.seed + number) % 2**32
            drawn = sampling.model_copy(update={"max_tokens": longest, "seed": seed})
            jobs.append(Job(len(jobs), prompt, drawn, adapter, asked))
    return jobs
