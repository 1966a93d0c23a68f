"""The ledger of a prompt: what was sent, what was not, why, and what each part took."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, NamedTuple

from chatkit.errors import InputError

Policy = Literal["sliding", "summarise", "refuse"]
Fate = Literal["sent", "left out", "summarised"]


class Line(NamedTuple):
    """What became of one message.

    Args:
        id: the message's; `system` for the system prompt.
        role: the message's; `summary` for what stands for earlier messages.
        tokens: when it was sent, its tokens in the prompt; else those of its text alone.
        fate: whether it was sent, left out, or stands in the prompt as a summary.
        why: the reason, for a person.
        neutralised: control tokens that it spells, which went in as plain text.
    """

    id: str
    role: str
    tokens: int
    fate: Fate
    why: str
    neutralised: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ledger:
    """What went into one prompt; the tokens of its sent lines and the template's add up to all.

    Args:
        policy: what was to be done about a conversation that is too long.
        window: the model's window in tokens, prompt and answer together.
        answer: the tokens kept free for the answer.
        prompt_tokens: the tokens of the prompt.
        template_tokens: how many of them the template wrote itself.
        lines: one for each message, the system prompt and the summary, in their order.
    """

    policy: Policy
    window: int
    answer: int
    prompt_tokens: int
    template_tokens: int
    lines: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values; lines of the same fate and reason stand together."""
        return {
            "version": 1,
            "policy": self.policy,
            "window": self.window,
            "answer": self.answer,
            "prompt_tokens": self.prompt_tokens,
            "template_tokens": self.template_tokens,
            "lines": [
                {"fate": fate, "why": why, "messages": [_line_to_json(line) for line in lines]}
                for (fate, why), lines in groupby(self.lines, lambda line: (line.fate, line.why))
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Ledger":
        """Rebuild a ledger that `to_json` wrote.

        Raises:
            InputError: the value is of another form.
        """
        try:
            return cls(
                value["policy"],
                value["window"],
                value["answer"],
                value["prompt_tokens"],
                value["template_tokens"],
                tuple(_lines_from_json(value["lines"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"This is not a ledger ({error}); pass what its to_json wrote."
            ) from None


def _line_to_json(line: Line) -> dict[str, Any]:
    value: dict[str, Any] = {"id": line.id, "role": line.role, "tokens": line.tokens}
    if line.neutralised:
        value["neutralised"] = list(line.neutralised)
    return value


def _lines_from_json(runs: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    for run in runs:
        for row in run["messages"]:
            names = tuple(row.get("neutralised", ()))
            yield Line(row["id"], row["role"], row["tokens"], run["fate"], run["why"], names)
