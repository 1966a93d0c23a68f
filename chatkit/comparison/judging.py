"""A model votes on a comparison."""

import asyncio
from typing import TYPE_CHECKING

from chatkit.background import wait_for
from chatkit.comparison.result import Ballot, Comparison
from chatkit.engines.opening import SESSION
from chatkit.errors import InputError
from chatkit.evaluation.judging import Judged, Judgement, conversation_text, judge_pair
from chatkit.models import shared_models
from chatkit.stats.ratings import Vote

if TYPE_CHECKING:
    from pandas import DataFrame


def judge_replies(comparison: Comparison, judge: str, streams: int) -> "DataFrame":
    """Let a model compare every model's answers with the first one's; see `Comparison.judge`."""
    from pandas import DataFrame

    first, *others = comparison.models
    if not others:
        raise InputError("A judge compares two models; the comparison has one.")
    rows = []
    for other in others:
        judgement = wait_for(_judge(comparison, judge, first, other, streams))
        for one in judgement.judged:
            if one.won is not None:
                vote = Vote(other, first, one.won)
                comparison.ballots.append(Ballot(int(one.sample), vote, "judge", judge, True))
        rows.append(
            {
                "model": other,
                "against": first,
                "wins": judgement.win_rate,
                "wins at even length": judgement.even_length_win_rate,
                "followed the order": judgement.swayed,
                "pairs": len(judgement.judged),
                "no verdict": judgement.failed,
            }
        )
    return DataFrame(rows).set_index("model")


async def _judge(
    comparison: Comparison, judge: str, first: str, other: str, streams: int
) -> Judgement:
    free = asyncio.Semaphore(streams)
    both = [
        place
        for place in range(len(comparison.prompts))
        if all(
            (reply := comparison.replies.get((place, model))) and reply.whole
            for model in (first, other)
        )
    ]
    async with shared_models().use(judge, SESSION) as engine:

        async def of(place: int) -> Judged:
            asked = conversation_text(comparison.prompts[place])
            old, new = (comparison.replies[place, model].text for model in (first, other))
            async with free:
                return await judge_pair(engine, str(place), asked, old, new)

        return Judgement(judge, tuple(await asyncio.gather(*map(of, both))))
