"""Rows of training data, as values: an example, a pair, a thumb, a question."""

import json
from dataclasses import dataclass
from typing import Literal, NamedTuple

from chatkit.messages import Message, Tool

Kind = Literal["example", "pair", "thumb", "question"]


class Origin(NamedTuple):
    """Where a row is from.

    Args:
        source: the file, or the name of the store.
        line: its line, or its place among the rows of that source, from 1.
        user: whose it is, where the source tells.
        conversation: the conversation that it is from, where the source tells.
        made_by: which model, adapter and sampling made each answer, where the source tells.
    """

    source: str
    line: int
    user: str | None = None
    conversation: str | None = None
    made_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.source}:{self.line}"

    @property
    def group(self) -> str | None:
        """What may not be on both sides of the held-out line."""
        if self.user is not None:
            return f"user {self.user}"
        return None if self.conversation is None else f"conversation {self.conversation}"


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation whose answers are trained, all of them or the last one only."""

    messages: tuple[Message, ...]
    origin: Origin
    last_only: bool = False
    tools: tuple[Tool, ...] = ()
    kind: Kind = "example"

    @property
    def asked(self) -> tuple[Message, ...]:
        """What stands before the last answer."""
        return self.messages[:-1] if self.messages[-1].role == "assistant" else self.messages


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to the same, of which one is preferred."""

    asked: tuple[Message, ...]
    chosen: Message
    rejected: Message
    origin: Origin
    tools: tuple[Tool, ...] = ()
    kind: Kind = "pair"

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation with the preferred answer."""
        return (*self.asked, self.chosen)


@dataclass(frozen=True, slots=True)
class Thumb:
    """An answer that somebody liked or disliked."""

    asked: tuple[Message, ...]
    answer: Message
    liked: bool
    origin: Origin
    tools: tuple[Tool, ...] = ()
    kind: Kind = "thumb"

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation with the answer."""
        return (*self.asked, self.answer)


@dataclass(frozen=True, slots=True)
class Question:
    """Something to answer, with what a good answer is compared with."""

    asked: tuple[Message, ...]
    reference: str | None
    origin: Origin
    tools: tuple[Tool, ...] = ()
    kind: Kind = "question"

    @property
    def messages(self) -> tuple[Message, ...]:
        """What is asked."""
        return self.asked


Row = Example | Pair | Thumb | Question


def row_texts(row: Row) -> list[str]:
    """Give all texts of a row, for comparing rows with each other."""
    texts = [f"{m.role}: {m.content}" for m in row.messages]
    if row.tools:
        texts.append(json.dumps(row.tools, sort_keys=True, ensure_ascii=False))
    if isinstance(row, Pair):
        texts.append(row.rejected.content)
    if isinstance(row, Thumb):
        texts.append(str(row.liked))
    return texts
