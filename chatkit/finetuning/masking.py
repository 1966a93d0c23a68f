"""Rows as token ids, each with what of it is trained."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from chatkit.errors import InputError, TemplateError
from chatkit.finetuning.rows import Example, Pair, Question, Row, Thumb
from chatkit.messages import Message
from chatkit.template import ChatTemplate, Masked

IGNORED = -100


class TooLong(InputError):
    """A row has more tokens than an example may have.

    Args:
        tokens: how many it has.
        allowed: how many it may have.
    """

    def __init__(self, tokens: int, allowed: int) -> None:
        super().__init__(f"it has {tokens:,} tokens and {allowed:,} are allowed")
        self.tokens = tokens


class Tokens(NamedTuple):
    """A row as its trainer takes it.

    Args:
        row: the row, without what was cut.
        columns: the ids by the names that trainers give them.
        length: tokens of the whole row, of its longer side where it has two.
        trained: how many of them are trained.
        cut: how many messages were left out at its beginning.
    """

    row: Row
    columns: dict[str, object]
    length: int
    trained: int
    cut: int = 0


class Masker:
    """Makes tokens of rows with one template.

    Args:
        template: the model's.
        longest: the most tokens of a row.
        cut: whether a longer one loses its oldest turns; else it is refused.
    """

    def __init__(self, template: ChatTemplate, longest: int, *, cut: bool) -> None:
        self.template = template
        self._longest = longest
        self._cut = cut

    def tokens(self, row: Row) -> Tokens:
        """Render a row.

        Raises:
            TooLong: it is longer than allowed, and cutting does not help.
            TemplateError: the template cannot show what would be trained, or drops its tools.
        """
        if row.tools and not self.template.takes_tools:
            raise TemplateError("its tools are dropped by this chat template")
        for cut, shorter in enumerate(self._shortened(row)):
            tokens = self._whole(shorter)
            if tokens.length <= self._longest:
                dropped = len(row.messages) - len(shorter.messages)
                return tokens._replace(cut=dropped if cut else 0)
        raise TooLong(self._whole(row).length, self._longest)

    def masked(self, row: Example) -> Masked:
        """Render an example, and say for each token whether it is trained."""
        masked = self.template.mask(row.messages, row.tools)
        return _last_run(masked) if row.last_only else masked

    def _whole(self, row: Row) -> Tokens:
        match row:
            case Example():
                return self._example(row)
            case Pair():
                return self._pair(row)
            case Thumb():
                return self._thumb(row)
            case Question():
                return self._question(row)

    def _example(self, row: Example) -> Tokens:
        masked = self.masked(row)
        # Loss is of the next token, so the first one is never predicted.
        labels = [
            id if trained and place else IGNORED
            for place, (id, trained) in enumerate(zip(masked.ids, masked.trained, strict=True))
        ]
        trained = sum(label != IGNORED for label in labels)
        if trained == 0:
            raise TemplateError("no token of it would be trained")
        columns: dict[str, object] = {"input_ids": list(masked.ids), "labels": labels}
        return Tokens(row, columns, len(labels), trained)

    def _pair(self, row: Pair) -> Tokens:
        prompt, chosen = self._answered(row, row.chosen)
        _, rejected = self._answered(row, row.rejected)
        columns: dict[str, object] = {
            "prompt_ids": prompt,
            "chosen_ids": chosen,
            "rejected_ids": rejected,
        }
        longer = max(len(chosen), len(rejected))
        return Tokens(row, columns, len(prompt) + longer, len(chosen) + len(rejected))

    def _thumb(self, row: Thumb) -> Tokens:
        prompt, answer = self._answered(row, row.answer)
        columns: dict[str, object] = {
            "prompt_ids": prompt,
            "completion_ids": answer,
            "label": row.liked,
        }
        return Tokens(row, columns, len(prompt) + len(answer), len(answer))

    def _question(self, row: Question) -> Tokens:
        prompt = list(self.template.render(row.asked, tools=row.tools))
        columns: dict[str, object] = {
            "prompt_ids": prompt,
            "question": row.asked[-1].content,
            "reference": row.reference or "",
        }
        return Tokens(row, columns, len(prompt), 0)

    def _answered(self, row: Pair | Thumb, answer: Message) -> tuple[list[int], list[int]]:
        """Cut a conversation where its last answer begins, and end with that answer's end."""
        masked = _last_run(self.template.mask([*row.asked, answer], row.tools))
        begin = masked.trained.index(True)
        end = len(masked.ids) - masked.trained[::-1].index(True)
        return list(masked.ids[:begin]), list(masked.ids[begin:end])

    def _shortened(self, row: Row) -> Iterator[Row]:
        yield row
        if not self._cut:
            return
        head = 1 if row.messages[0].role == "system" else 0
        kept = row.asked if not isinstance(row, Example) else row.messages
        starts = [n for n in range(head + 1, len(kept)) if kept[n].role == "user"]
        for start in starts:
            yield _from(row, (*kept[:head], *kept[start:]))


def _from(row: Row, messages: tuple[Message, ...]) -> Row:
    if isinstance(row, Example):
        return replace(row, messages=messages)
    return replace(row, asked=messages)


def _last_run(masked: Masked) -> Masked:
    """Keep the last answer of those that are marked."""
    end = len(masked.trained) - masked.trained[::-1].index(True)
    begin = end
    while begin and masked.trained[begin - 1]:
        begin -= 1
    kept = tuple(begin <= place < end for place in range(len(masked.ids)))
    return Masked(masked.ids, kept)


def last_answer(labels: list[int]) -> tuple[int, int]:
    """Find where the last answer of an example begins and ends, by its labels."""
    end = len(labels) - next(n for n, label in enumerate(labels[::-1]) if label != IGNORED)
    begin = end
    while labels[begin - 1] != IGNORED:
        begin -= 1
    return begin, end
