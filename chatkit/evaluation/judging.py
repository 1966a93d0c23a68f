"""A model as judge: pairs of answers in both orders, scores by a rubric, and who agrees with whom.

Source: Zheng 2023 (MT-bench) for pairs, orders and marks; Dubois 2024 for the control of length.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy

from chatkit.engine import Engine, complete
from chatkit.errors import EngineError, InputError
from chatkit.evaluation.record import Run
from chatkit.messages import Message, assistant, user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling
from chatkit.stats.ratings import cohen_kappa

PAIR = """Compare two answers to a conversation. Judge how helpful, right, relevant and complete \
they are; their order and their length do not count.

{conversation}

[Answer A]
{first}

[Answer B]
{second}

Give your reasons in a few sentences. Then end with [[A]] if A is better, [[B]] if B is better, or \
[[C]] if they are equally good."""
RUBRIC = """Judge the last answer of a conversation by this rubric:

{rubric}

{conversation}

[Answer]
{answer}

Give your reasons in a few sentences. Then end with a whole number from 1 to 10 in double \
brackets, as in [[5]]."""
_MARK = re.compile(r"\[\[([ABC])\]\]")
_POINTS = re.compile(r"\[\[(10|[1-9])\]\]")
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge says of one sample.

    Args:
        sample: its id.
        won: 1 for the new answer, 0 for the old one, a half for neither; None when it gave no
            verdict in one of the orders.
        swayed: whether the other order changed its mind.
        longer: by how many characters the new answer is longer.
    """

    sample: str
    won: float | None
    swayed: bool
    longer: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says of two runs.

    Args:
        judge: its name.
        judged: by sample.
    """

    judge: str
    judged: tuple[Judged, ...]

    @property
    def wins(self) -> list[float]:
        """The verdicts that there are."""
        return [one.won for one in self.judged if one.won is not None]

    @property
    def failed(self) -> int:
        """How many samples it gave no verdict on; they are counted, and never guessed."""
        return sum(one.won is None for one in self.judged)

    @property
    def swayed(self) -> float:
        """The share of verdicts that followed the order of the answers."""
        decided = [one for one in self.judged if one.won is not None]
        return sum(one.swayed for one in decided) / len(decided) if decided else 0.0

    @property
    def win_rate(self) -> float | None:
        """How often the new answer wins, ties a half."""
        return fmean(self.wins) if self.wins else None

    @property
    def even_length_win_rate(self) -> float | None:
        """How often it would win if the answers were of the same length."""
        decided = [(one.won, one.longer) for one in self.judged if one.won is not None]
        if len(decided) < 10:
            return None
        return win_rate_at_even_length([w for w, _ in decided], [n for _, n in decided])


async def judge_runs(
    judge: Engine,
    old: Run,
    new: Run,
    *,
    streams: int = 4,
    known: Mapping[str, Judged] | None = None,
    keep: Callable[[Judged], None] = lambda judged: None,
) -> Judgement:
    """Let a model compare the answers of two runs, each pair in both orders.

    Args:
        judge: who judges.
        old: the run that the other is compared with.
        new: the run that is judged.
        streams: pairs at once.
        known: verdicts of before by sample, which are not asked for again.
        keep: is given each new verdict as it comes.

    Raises:
        InputError: the runs share no answered sample.
    """
    both = sorted(
        sample
        for sample, turn in new.answers
        if turn == 0
        and (sample, 0) in old.answers
        and not old.answers[sample, 0].error
        and not new.answers[sample, 0].error
    )
    if not both:
        raise InputError("The runs share no answered sample to judge; finish them first.")
    free = asyncio.Semaphore(streams)

    async def of(sample: str) -> Judged:
        if known and sample in known:
            return known[sample]
        async with free:
            judged = await _judge_pair(judge, old, new, sample)
        keep(judged)
        return judged

    return Judgement(judge.name, tuple(await asyncio.gather(*map(of, both))))


def conversation_text(messages: Sequence[Message]) -> str:
    """Write a conversation as a judge reads it."""
    return "\n\n".join(f"[{one.role.capitalize()}]\n{one.content}" for one in messages)


async def judge_pair(judge: Engine, sample: str, talk: str, old: str, new: str) -> Judged:
    """Let a model compare two answers, in both orders.

    Args:
        judge: who judges.
        sample: what the pair is called.
        talk: the conversation that they answer.
        old: the answer that the other is compared with.
        new: the one that is judged.
    """
    longer = len(new) - len(old)
    if old == new:
        return Judged(sample, 0.5, False, longer)
    verdicts = []
    for first, second, marks in (
        (old, new, {"A": 0.0, "B": 1.0, "C": 0.5}),
        (new, old, {"A": 1.0, "B": 0.0, "C": 0.5}),
    ):
        asked = PAIR.format(conversation=talk, first=first, second=second)
        found = _MARK.findall(await _ask(judge, asked))
        verdicts.append(marks[found[-1]] if found else None)
    one, other = verdicts
    if one is None or other is None:
        return Judged(sample, None, False, longer)
    # Who wins in one order only has not won.
    return Judged(sample, one if one == other else 0.5, one != other, longer)


async def rubric_scores(
    judge: Engine, run: Run, rubric: str, *, streams: int = 4
) -> dict[str, int | None]:
    """Let a model give each sample's last answer 1 to 10 points; None where it gave none.

    Args:
        judge: who judges.
        run: whose answers.
        rubric: by what.
        streams: answers at once.
    """
    free = asyncio.Semaphore(streams)

    async def of(sample: str) -> tuple[str, int | None]:
        answer = run.answers[sample, 0]
        talk = conversation_text(_messages(answer.asked, answer.said[:-1]))
        asked = RUBRIC.format(rubric=rubric, conversation=talk, answer=answer.said[-1])
        async with free:
            found = _POINTS.findall(await _ask(judge, asked))
        return sample, int(found[-1]) if found else None

    answered = [name for (name, turn), one in run.answers.items() if turn == 0 and not one.error]
    return dict(await asyncio.gather(*map(of, answered)))


def agreement(first: Judgement, second: Judgement | Mapping[str, float]) -> float | None:
    """Tell how far two judges, or a judge and people's votes, agree beyond chance (kappa).

    Args:
        first: a judge's verdicts.
        second: another's, or votes by sample: 1 for the new answer, 0 for the old, a half.

    Raises:
        InputError: they judged nothing in common.
    """
    votes = (
        second
        if isinstance(second, Mapping)
        else {one.sample: one.won for one in second.judged if one.won is not None}
    )
    pairs = [
        (str(one.won), str(float(votes[one.sample])))
        for one in first.judged
        if one.won is not None and one.sample in votes
    ]
    if not pairs:
        raise InputError("The two judged nothing in common, so they cannot agree.")
    return cohen_kappa([a for a, _ in pairs], [b for _, b in pairs])


def win_rate_at_even_length(won: Sequence[float], longer: Sequence[int]) -> float:
    """Give the win rate that a logistic regression sees where answers are of the same length.

    A little shrinkage keeps the slope finite where length decides everything.

    Args:
        won: 1, 0 or a half for each pair.
        longer: by how much the winning side's answer would have been longer.
    """
    lengths = numpy.asarray(longer, numpy.float64)
    spread = lengths.std() or 1.0
    features = numpy.column_stack([numpy.ones(len(lengths)), numpy.tanh(lengths / spread)])
    wanted, weights = numpy.asarray(won, numpy.float64), numpy.zeros(2)
    shrinkage = numpy.diag([0.0, 0.1])
    for _ in range(_STEPS):
        chance = 1 / (1 + numpy.exp(-numpy.clip(features @ weights, -30, 30)))
        gradient = features.T @ (wanted - chance) - shrinkage @ weights
        curve = (features * (chance * (1 - chance))[:, None]).T @ features + shrinkage
        curve += 1e-6 * numpy.eye(2)
        weights = weights + numpy.linalg.solve(curve, gradient)
    return float(1 / (1 + numpy.exp(-numpy.clip(weights[0], -30, 30))))


async def _judge_pair(judge: Engine, old: Run, new: Run, sample: str) -> Judged:
    before, now = old.answers[sample, 0], new.answers[sample, 0]
    talk = conversation_text(_messages(now.asked))
    return await judge_pair(judge, sample, talk, _answers(before.said), _answers(now.said))


def _answers(said: Sequence[str]) -> str:
    """Give what a model answered in a conversation; its later answers rest on its earlier ones."""
    if len(said) == 1:
        return said[0]
    return "\n\n".join(f"(to question {place})\n{text}" for place, text in enumerate(said, 1))


def _messages(asked: Sequence[str], said: Sequence[str] = ()) -> list[Message]:
    found = []
    for place, question in enumerate(asked):
        found.append(user(question))
        found += map(assistant, said[place : place + 1])
    return found


async def _ask(judge: Engine, asked: str) -> str:
    """Ask a judge; a failure is no verdict."""
    try:
        prompt = build_prompt(judge.template, [user(asked)])
        text, _ = await complete(judge, prompt, Sampling(temperature=0, max_tokens=400))
    except (EngineError, InputError):
        return ""
    return text
