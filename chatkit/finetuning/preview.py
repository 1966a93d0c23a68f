"""The mask proof: every row is rendered, and what is trained is compared with what was said."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from chatkit.finetuning.gathering import KINDS, Gathering
from chatkit.finetuning.masking import IGNORED
from chatkit.finetuning.recipe import Recipe
from chatkit.finetuning.report import DataReport
from chatkit.finetuning.rows import Example, Pair, Row, Thumb
from chatkit.loading.bases import find_base
from chatkit.messages import Message
from chatkit.template import ChatTemplate


class Piece(NamedTuple):
    """A stretch of text that is trained, or not."""

    text: str
    trained: bool


class Shown(NamedTuple):
    """A row as a person reads it.

    Args:
        origin: where it stands.
        pieces: its text.
    """

    origin: str
    pieces: tuple[Piece, ...]


@dataclass(slots=True)
class Preview:
    """What a recipe would train.

    Args:
        report: what became of the rows.
        examples: some of them, as text.
        trained: tokens that are trained.
        ignored: tokens that are read only.
        problems: rows of which something else is trained than its answers.
        refused_stops: whether rows were refused, and training would stop because of them.
    """

    report: DataReport
    examples: list[Shown] = field(default_factory=list)
    trained: int = 0
    ignored: int = 0
    problems: list[str] = field(default_factory=list)
    refused_stops: bool = False

    def summary(self) -> Iterator[str]:
        """Give the counts, one sentence each."""
        report = self.report
        for source, form in report.formats.items():
            yield f"{source} is read as {form}."
        yield (
            f"{report.read} rows read: {report.train} to train on, {report.held_out} held out, "
            f"{report.duplicates} duplicates, {len(report.too_long)} dropped as too long, "
            f"{report.cut} cut, {len(report.refused)} refused, {report.erased} erased."
        )
        yield f"{self.trained:,} tokens are trained and {self.ignored:,} are read only."
        if report.differing_in_length:
            yield f"{report.differing_in_length} pairs differ in length only."
        lengths = sorted(report.lengths.items())
        if lengths:
            yield "Lengths: " + ", ".join(f"{count} up to {most}" for most, count in lengths) + "."
        for refused in report.refused:
            yield f"refused: {refused}"
        for long in report.too_long[:10]:
            yield f"too long: {long}"


def preview(recipe: Recipe, examples: int = 5) -> Preview:
    """Render all rows of a recipe, and prove for each what is trained.

    Args:
        recipe: says which.
        examples: how many are kept as text.

    Raises:
        InputError: a source cannot be read.
    """
    template = find_base(recipe.base).template
    gathering = Gathering(recipe.data, KINDS[recipe.method], template)
    found = Preview(gathering.report)
    for judged in gathering.rows():
        for ids, labels, answers in _sides(judged.tokens.columns, judged.tokens.row):
            trained = sum(label != IGNORED for label in labels)
            found.trained += trained
            found.ignored += len(ids) - trained
            if problem := _problem(template, labels, answers):
                found.problems.append(f"{judged.row.origin}: {problem}")
            if len(found.examples) < examples:
                found.examples.append(Shown(str(judged.row.origin), _pieces(template, ids, labels)))
    found.refused_stops = bool(gathering.report.refused) and recipe.data.bad_rows == "stop"
    return found


def _sides(
    columns: dict[str, object], row: Row
) -> Iterator[tuple[list[int], list[int], list[Message]]]:
    """Give ids, labels and the answers that should be trained, for each side of a row."""
    match row:
        case Example():
            said = [m for m in row.messages if m.role == "assistant"]
            kept = said[-1:] if row.last_only else said
            yield columns["input_ids"], columns["labels"], kept  # type: ignore[misc]
        case Pair():
            prompt = columns["prompt_ids"]
            for name, message in (("chosen_ids", row.chosen), ("rejected_ids", row.rejected)):
                answer = columns[name]
                labels = [IGNORED] * len(prompt) + answer  # type: ignore[arg-type, operator]
                yield prompt + answer, labels, [message]  # type: ignore[operator]
        case Thumb():
            prompt, answer = columns["prompt_ids"], columns["completion_ids"]
            labels = [IGNORED] * len(prompt) + answer  # type: ignore[arg-type, operator]
            yield prompt + answer, labels, [row.answer]  # type: ignore[operator]


def _problem(template: ChatTemplate, labels: list[int], answers: list[Message]) -> str:
    """Say what is wrong with what is trained; empty when it is the answers with their ends."""
    control = {token.id for token in template.tokenizer.control.values()}
    runs = list(_runs(labels))
    if len(runs) != len(answers):
        return f"{len(runs)} stretches are trained, and it has {len(answers)} answers"
    for run, answer in zip(runs, answers, strict=True):
        *body, end = run
        if end not in control:
            return "an answer is trained without the token that ends its turn"
        trained = template.tokenizer.decode(body)
        if not _is_said(trained, answer):
            return f"{trained!r} is trained where {answer.content!r} was said"
    return ""


def _is_said(trained: str, answer: Message) -> bool:
    """Whether a text is an answer; calls are worded by the template, with what they say in it."""
    if not answer.tool_calls:
        return trained.strip() == answer.content.strip()
    called = [part for call in answer.tool_calls for part in (call.name, call.arguments)]
    return all(part in trained for part in (answer.content.strip(), *called))


def _runs(labels: list[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for label in [*labels, IGNORED]:
        if label != IGNORED:
            run.append(label)
        elif run:
            yield run
            run = []


def _pieces(template: ChatTemplate, ids: list[int], labels: list[int]) -> tuple[Piece, ...]:
    spelled = {token.id: token.text for token in template.tokenizer.control.values()}
    pieces: list[tuple[list[int], bool]] = []
    for id, label in zip(ids, labels, strict=True):
        trained = label != IGNORED
        if not pieces or pieces[-1][1] != trained or id in spelled:
            pieces.append(([], trained))
        pieces[-1][0].append(id)
    texts: list[Piece] = []
    for held, trained in pieces:
        head = spelled.get(held[0], "")
        rest = template.tokenizer.decode(held[1:] if head else held)
        texts.append(Piece(head + rest, trained))
    return tuple(texts)
