"""What a comparison found: answers, figures, votes, and what can be made of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from chatkit.comparison.differing import marked_differences
from chatkit.errors import InputError
from chatkit.messages import Message, as_messages
from chatkit.stats.ratings import Rating, Vote, bradley_terry
from chatkit.store.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

VERSION = 1
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


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote on one prompt.

    Args:
        prompt: its place.
        vote: who won.
        voter: a person or a judge.
    """

    prompt: int
    vote: Vote
    voter: str = "local"


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
    """

    models: tuple[str, ...]
    prompts: tuple[tuple[Message, ...], ...]
    replies: dict[tuple[int, str], Reply] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)
    ballots: list[Ballot] = field(default_factory=list)

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
    def criteria(self) -> "DataFrame":
        """Each model's figures in one row: speed, memory, length, failures, rating."""
        from pandas import DataFrame

        rated = self.ratings() if self.ballots else {}
        return DataFrame([self._figures(model, rated) for model in self.models]).set_index("model")

    def vote(self, prompt: int, first: str, second: str, won: float, voter: str = "local") -> None:
        """Say which of two answers is better.

        Args:
            prompt: its place.
            first: a model.
            second: another.
            won: 1 for the first, 0 for the second, a half for neither.
            voter: who says so.

        Raises:
            InputError: one of them did not answer, or `won` is none of the three.
        """
        if won not in (0, 0.5, 1):
            raise InputError(f"A vote is 1, 0 or 0.5, not {won}.")
        for model in (first, second):
            reply = self.replies.get((prompt, model))
            if reply is None or not reply.done or reply.error:
                raise InputError(f"{model} did not answer prompt {prompt}; vote on one it did.")
        if first == second:
            raise InputError("A vote is on two models; name another one.")
        self.ballots.append(Ballot(prompt, Vote(first, second, float(won)), voter))

    def ratings(self, voter: str | None = None) -> dict[str, Rating]:
        """Rate the models by the votes, best first, with intervals.

        Args:
            voter: whose votes; None takes all.

        Raises:
            InputError: there are none.
        """
        return bradley_terry([b.vote for b in self.ballots if voter is None or b.voter == voter])

    def plot(self) -> "Figure":
        """Draw speed, wait and memory of the models."""
        from matplotlib import pyplot

        figures = [self._figures(model, {}) for model in self.models]
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

    def to_preferences(self, path: Path | str) -> int:
        """Write the votes as preference pairs for `python -m finetune dpo`.

        Ties and answers that are the same give no pair.

        Args:
            path: of the JSON lines.

        Returns:
            How many pairs there are.

        Raises:
            InputError: there is no vote that prefers an answer.
        """
        lines = [pair for ballot in self.ballots if (pair := self._pair(ballot))]
        if not lines:
            raise InputError("No vote prefers an answer; vote first.")
        Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        return len(lines)

    def save(self, path: Path | str) -> None:
        """Write all of it to a JSON file, in one step."""
        said = {
            "version": VERSION,
            "models": self.models,
            "prompts": [
                [{"role": m.role, "content": m.content} for m in prompt] for prompt in self.prompts
            ],
            "replies": [
                {"prompt": place, "model": model} | asdict(reply)
                for (place, model), reply in self.replies.items()
            ],
            "memory": self.memory,
            "templates": self.templates,
            "ballots": [
                {"prompt": b.prompt, "voter": b.voter} | b.vote._asdict() for b in self.ballots
            ],
        }
        with whole_file(Path(path), replace=True) as file:
            file.write(json.dumps(said, ensure_ascii=False, indent=1).encode())

    @classmethod
    def load(cls, path: Path | str) -> "Comparison":
        """Read what `save` wrote.

        Raises:
            InputError: the file is no comparison.
        """
        try:
            said = json.loads(Path(path).read_text("utf-8"))
            if said["version"] != VERSION:
                raise InputError(
                    f"{path} is a comparison of version {said['version']} and this chatkit reads "
                    f"{VERSION}."
                )
            return cls(
                tuple(said["models"]),
                tuple(as_messages(prompt) for prompt in said["prompts"]),
                {(r.pop("prompt"), r.pop("model")): Reply(**r) for r in said["replies"]},
                said["memory"],
                said["templates"],
                [
                    Ballot(b["prompt"], Vote(b["first"], b["second"], b["won"]), b["voter"])
                    for b in said["ballots"]
                ],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} is no comparison ({error}); give one that save wrote."
            ) from None

    def to_html(self, path: Path | str | None = None) -> str:
        """Give the answers side by side as HTML; what differs from the first is marked.

        Args:
            path: a file to write it to as a page, too.
        """
        table = "".join(self._html_row(place) for place in range(len(self.prompts)))
        head = "".join(f"<th>{escape(model)}</th>" for model in self.models)
        html = (
            f"<style>{_STYLE}</style><div class='chatkit-compare'><table><thead><tr>{head}</tr>"
            f"</thead><tbody>{table}</tbody></table></div>"
        )
        if path is not None:
            page = (
                "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' "
                f"content='width=device-width'><title>Comparison</title><body>{html}</body></html>"
            )
            Path(path).write_text(page, "utf-8")
        return html

    def _repr_html_(self) -> str:
        return self.to_html()

    def _html_row(self, place: int) -> str:
        asked = escape(self.prompts[place][-1].content)
        first = self.replies.get((place, self.models[0]))
        cells = []
        for model in self.models:
            reply = self.replies.get((place, model)) or Reply()
            compared = (
                marked_differences(first.text, reply.text)
                if first is not None and reply is not first and reply.done and not reply.error
                else escape(reply.text)
            )
            cells.append(f"<td><div class='text'>{compared}</div>{_said_of(reply)}</td>")
        span = len(self.models)
        return f"<tr><td class='asked' colspan='{span}'>{asked}</td></tr><tr>{''.join(cells)}</tr>"

    def _figures(self, model: str, rated: Mapping[str, Rating]) -> dict[str, Any]:
        mine = [reply for (_, name), reply in self.replies.items() if name == model]
        whole = [reply for reply in mine if reply.done and not reply.error]
        figures = {
            "model": model,
            "answers": len(whole),
            "failed": sum(bool(reply.error) for reply in mine),
            "tokens/s": _middle([reply.tokens_per_second for reply in whole]),
            "first token (s)": _middle([reply.first_token_seconds for reply in whole]),
            "tokens": _middle([reply.tokens for reply in whole]),
            "memory (MB)": round(self.memory.get(model, 0) / 1e6),
        }
        if rating := rated.get(model):
            figures |= {"rating": round(rating.value), "low": round(rating.low)}
            figures |= {"high": round(rating.high), "votes": rating.votes}
        return figures

    def _pair(self, ballot: Ballot) -> dict[str, Any] | None:
        first, second, won = ballot.vote
        if won == 0.5:
            return None
        best, worst = (first, second) if won else (second, first)
        chosen, rejected = (self.replies[ballot.prompt, name].text for name in (best, worst))
        if chosen == rejected:
            return None
        asked = [{"role": m.role, "content": m.content} for m in self.prompts[ballot.prompt]]
        made_by = {"chosen_model": best, "rejected_model": worst}
        return {"prompt": asked, "chosen": chosen, "rejected": rejected} | made_by


_STYLE = """
.chatkit-compare { overflow-x: auto; }
.chatkit-compare table { border-collapse: collapse; width: 100%; table-layout: fixed;
  min-width: 40em; }
.chatkit-compare th, .chatkit-compare td { text-align: left; vertical-align: top;
  padding: .5em .8em; white-space: normal; }
.chatkit-compare td.asked { font-weight: 600; border-top: 1px solid #8885; }
.chatkit-compare .text { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24em;
  overflow-y: auto; }
.chatkit-compare .said { color: #7d7d7d; font-size: .85em; margin-top: .4em; }
.chatkit-compare .failed { color: #c0392b; }
.chatkit-compare mark { background: #3b78bd33; color: inherit; }
"""


def _said_of(reply: Reply) -> str:
    if reply.error:
        return f"<div class='said failed'>{escape(reply.error)}</div>"
    if not reply.done:
        return "<div class='said'>writing …</div>" if reply.text else "<div class='said'>…</div>"
    return (
        f"<div class='said'>{reply.tokens} tokens, {reply.tokens_per_second:.0f} tokens/s, first "
        f"after {reply.first_token_seconds:.2f} s</div>"
    )


def _middle(values: Sequence[float]) -> float:
    return round(median(values), 2) if values else 0.0
