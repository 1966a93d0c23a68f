"""What a comparison found: answers, figures, votes, and what can be made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from chatkit.background import wait_for
from chatkit.errors import InputError
from chatkit.messages import Message
from chatkit.service import shared_service
from chatkit.shelf import LOCAL_USER
from chatkit.stats.ratings import Rating, Vote, bradley_terry, cohen_kappa
from chatkit.store.records import VoteRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from chatkit.comparison.criteria import Criteria
    from chatkit.comparison.vote_widget import VoteWidget

Voter = Literal["person", "judge"]
_BAR = "#3b78bd"


@dataclass(slots=True)
class Reply:
    """What a model answered to a prompt.

    Args:
        text: so far.
        done: whether it is whole.
        error: what failed; empty when nothing did.
        tokens: of the answer.
        tokens_per_second: over the whole answer, the wait included.
        first_token_seconds: from asking to the first text.
        seconds: from asking to the end.
    """

    text: str = ""
    done: bool = False
    error: str = ""
    tokens: int = 0
    tokens_per_second: float = 0.0
    first_token_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether it came to its end."""
        return self.done and not self.error


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote on one prompt.

    Args:
        prompt: its place.
        vote: who won.
        kind: whether a person voted or a judge.
        voter: the person's or the judge's name.
        blind: whether the voter did not see the names of the models.
        stored: the vote's name in the store; empty for a judge's.
    """

    prompt: int
    vote: Vote
    kind: Voter = "person"
    voter: str = LOCAL_USER
    blind: bool = False
    stored: str = ""


@dataclass(slots=True)
class Comparison:
    """Models' answers to the same prompts.

    Args:
        models: their names, in the order of the columns.
        prompts: what they were asked, each a conversation that ends with a question.
        replies: by prompt and model.
        memory: the bytes that each model holds, as its engine estimates.
        templates: the identity of each model's chat template.
        ballots: the votes.
        price: of the machine, for an hour, in any currency; None when nobody told.
    """

    models: tuple[str, ...]
    prompts: tuple[tuple[Message, ...], ...]
    replies: dict[tuple[int, str], Reply] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)
    ballots: list[Ballot] = field(default_factory=list)
    price: float | None = None

    @property
    def frame(self) -> "DataFrame":
        """All answers with their figures, one row each."""
        from pandas import DataFrame

        rows = [
            {"prompt": place, "question": self.prompts[place][-1].content, "model": model}
            | asdict(reply)
            for (place, model), reply in sorted(self.replies.items())
        ]
        return DataFrame(rows)

    @property
    def summary(self) -> "DataFrame":
        """Each model's figures in one row: speed, memory, cost, length, failures, rating."""
        from pandas import DataFrame

        voted = any(ballot.kind == "person" for ballot in self.ballots)
        rated = self.ratings() if voted else {}
        rows = [self.figures(model) | _rating(rated.get(model)) for model in self.models]
        return DataFrame(rows).set_index("model")

    def criteria(self, runs: Path | str = "runs") -> "Criteria":
        """Weigh the models by quality, speed, memory and licence, each figure with its evidence.

        Args:
            runs: the folder where `python -m eval run` left its runs.
        """
        from chatkit.comparison.criteria import weigh

        return weigh(self, Path(runs))

    def vote(self, *, seed: int | None = None) -> "VoteWidget":
        """Vote in a notebook: two answers side by side, without names, by button or key.

        Each vote goes into the store and into this comparison at once.

        Args:
            seed: of the order and of the sides; None draws one.
        """
        from chatkit.comparison.vote_widget import VoteWidget
        from chatkit.comparison.voting import Voting

        return VoteWidget(Voting(self, seed))

    def prefer(
        self, prompt: int, first: str, second: str, won: float, *, blind: bool = False
    ) -> Ballot:
        """Say which of two answers is better; it goes into the store, too.

        Args:
            prompt: its place.
            first: a model.
            second: another.
            won: 1 for the first, 0 for the second, a half for neither.
            blind: whether the names were not seen.

        Raises:
            InputError: one of them did not answer, or `won` is none of the three.
        """
        for model in (first, second):
            reply = self.replies.get((prompt, model))
            if reply is None or not reply.whole:
                raise InputError(f"{model} did not answer prompt {prompt}; vote on one it did.")
        texts = (self.replies[prompt, first].text, self.replies[prompt, second].text)
        record = VoteRecord(self.prompts[prompt], first, second, *texts, float(won), blind)
        stored = wait_for(_store(record))
        ballot = Ballot(prompt, Vote(first, second, float(won)), blind=blind, stored=stored)
        self.ballots.append(ballot)
        return ballot

    def take_back(self, ballot: Ballot) -> None:
        """Undo a person's vote, here and in the store.

        Raises:
            InputError: it is none of this comparison's.
        """
        if ballot not in self.ballots or not ballot.stored:
            raise InputError("This vote is not in the comparison; it was taken back already.")
        wait_for(_take_back(ballot.stored))
        self.ballots.remove(ballot)

    def judge(self, judge: str, *, streams: int = 4) -> "DataFrame":
        """Let a model compare each model's answers with the first one's, in both orders.

        Verdicts become votes of that judge, apart from people's. Small models judge badly; what
        they say shows the mechanics only.

        Args:
            judge: its name.
            streams: pairs at once.

        Returns:
            For each model how often it wins, how often at even length, how many verdicts followed
            the order of the answers, and how many pairs have none.

        Raises:
            InputError: there is only one model.
        """
        from chatkit.comparison.judging import judge_replies

        return judge_replies(self, judge, streams)

    def ratings(self, judge: str | None = None) -> dict[str, Rating]:
        """Rate the models by the votes, best first, with intervals.

        Args:
            judge: whose votes; None takes those of people.

        Raises:
            InputError: there are none.
        """
        return bradley_terry([ballot.vote for ballot in self._of(judge)])

    def agreement(self, judge: str, other: str | None = None) -> float | None:
        """Tell how far a judge agrees with another, or with people, beyond chance (Cohen's kappa).

        Args:
            judge: its name.
            other: another's; None takes people's votes.

        Raises:
            InputError: they voted on nothing in common.
        """
        mine, theirs = (_verdicts(self._of(name)) for name in (judge, other))
        both = sorted(mine.keys() & theirs.keys())
        if not both:
            raise InputError("The two voted on nothing in common, so they cannot agree.")
        return cohen_kappa([str(mine[one]) for one in both], [str(theirs[one]) for one in both])

    def plot(self) -> "Figure":
        """Draw speed, wait and memory of the models."""
        from matplotlib import pyplot

        figures = [self.figures(model) for model in self.models]
        size = (9, 1 + 0.5 * len(self.models))
        picture, parts = pyplot.subplots(1, 3, sharey=True, figsize=size, layout="constrained")
        for axes, column in zip(parts, ("tokens/s", "first token (s)", "memory (MB)"), strict=True):
            axes.barh(self.models, [row[column] for row in figures], color=_BAR)
            axes.set_title(column, fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        parts[0].invert_yaxis()
        # The cell shows what it returns, and pyplot would show it once more.
        pyplot.close(picture)
        return picture

    def to_preferences(self, path: Path | str, judge: str | None = None) -> int:
        """Write the votes as preference pairs for `python -m finetune dpo`.

        Ties and answers that are the same give no pair.

        Args:
            path: of the JSON lines.
            judge: whose votes; None takes those of people.

        Returns:
            How many pairs there are.

        Raises:
            InputError: there is no vote that prefers an answer.
        """
        from chatkit.comparison.keeping import write_preferences

        return write_preferences(self, self._of(judge), Path(path))

    def save(self, path: Path | str) -> None:
        """Write all of it to a JSON file, in one step."""
        from chatkit.comparison.keeping import save

        save(self, Path(path))

    @classmethod
    def load(cls, path: Path | str) -> "Comparison":
        """Read what `save` wrote.

        Raises:
            InputError: the file is no comparison.
        """
        from chatkit.comparison.keeping import load

        return load(Path(path))

    def to_html(self, path: Path | str | None = None) -> str:
        """Give the answers side by side as HTML; what differs from the first is marked.

        Args:
            path: a file to write it to as a page, too.
        """
        from chatkit.comparison.page import table_of, write_page

        table = table_of(self)
        if path is not None:
            write_page(table, Path(path))
        return table

    def figures(self, model: str) -> dict[str, Any]:
        """Give a model's figures by name."""
        mine = [reply for (_, name), reply in self.replies.items() if name == model]
        whole = [reply for reply in mine if reply.whole]
        speed = _middle([reply.tokens_per_second for reply in whole])
        figures = {
            "model": model,
            "answers": len(whole),
            "failed": sum(bool(reply.error) for reply in mine),
            "tokens/s": speed,
            "first token (s)": _middle([reply.first_token_seconds for reply in whole]),
            "tokens": _middle([reply.tokens for reply in whole]),
            "memory (MB)": round(self.memory.get(model, 0) / 1e6),
        }
        if self.price is not None and speed:
            figures["per million tokens"] = round(self.price / (speed * 3_600) * 1e6, 2)
        return figures

    def _of(self, judge: str | None) -> list[Ballot]:
        if judge is None:
            return [ballot for ballot in self.ballots if ballot.kind == "person"]
        return [one for one in self.ballots if one.kind == "judge" and one.voter == judge]

    def _repr_html_(self) -> str:
        return self.to_html()


async def _store(record: VoteRecord) -> str:
    service = await shared_service(titles=False)
    return await service.vote(LOCAL_USER, record)


async def _take_back(vote: str) -> None:
    service = await shared_service(titles=False)
    await service.take_back_vote(LOCAL_USER, vote)


def _verdicts(ballots: Sequence[Ballot]) -> Mapping[tuple[int, str, str], float]:
    """Give the last verdict on each pair, from the side of the name that sorts first."""
    found: dict[tuple[int, str, str], float] = {}
    for ballot in ballots:
        first, second, won = ballot.vote
        if second < first:
            first, second, won = second, first, 1 - won
        found[ballot.prompt, first, second] = won
    return found


def _rating(rating: Rating | None) -> dict[str, Any]:
    if rating is None:
        return {}
    value, low, high = (round(number) for number in rating[:3])
    return {"rating": value, "low": low, "high": high, "votes": rating.votes}


def _middle(values: Sequence[float]) -> float:
    return round(median(values), 2) if values else 0.0
