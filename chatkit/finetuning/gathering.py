"""Gathers rows from all sources, judges each, and writes what is trained and what is held out."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from chatkit.background import iterate
from chatkit.errors import InputError
from chatkit.finetuning.duplicates import Duplicates
from chatkit.finetuning.erased import Erased
from chatkit.finetuning.formats import Format, find_format, rows_of
from chatkit.finetuning.masking import Masker, Tokens, TooLong
from chatkit.finetuning.own_rows import OWN, own_rows
from chatkit.finetuning.recipe import DataOptions, Method, Recipe, Source
from chatkit.finetuning.report import SHOWN, DataReport, Refused
from chatkit.finetuning.rows import Example, Kind, Origin, Pair, Question, Row, Thumb, row_texts
from chatkit.finetuning.sources import Read, read_records
from chatkit.finetuning.table import TableWriter
from chatkit.messages import assistant
from chatkit.settings import settings
from chatkit.store.opening import open_store
from chatkit.template import ChatTemplate

KINDS: dict[Method, Kind] = {
    "sft": "example",
    "distill": "example",
    "dpo": "pair",
    "orpo": "pair",
    "reward": "pair",
    "kto": "thumb",
    "grpo": "question",
}


class Files(NamedTuple):
    """Where gathered rows are."""

    train: Path
    held_out: Path


def files_in(folder: Path) -> Files:
    """Name the files that `gather` writes into a folder."""
    return Files(folder / "train.arrow", folder / "held_out.arrow")


@dataclass(frozen=True, slots=True)
class Judged:
    """A row, for what it is used, and as its trainer takes it."""

    row: Row
    held_out: bool
    tokens: Tokens
    times: int


def gather(recipe: Recipe, template: ChatTemplate, folder: Path) -> tuple[Files, DataReport]:
    """Read, judge, mask and write all rows of a recipe.

    Args:
        recipe: says which.
        template: the base's.
        folder: where `train.arrow` and `held_out.arrow` are written.

    Raises:
        InputError: a source cannot be read, a row cannot be used and `bad_rows` is `stop`, or no
            row is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = files_in(folder)
    kind = KINDS[recipe.method]
    gathering = Gathering(recipe.data, kind, template)
    with TableWriter(files.train, kind) as train, TableWriter(files.held_out, kind) as held_out:
        for judged in gathering.rows():
            tokens = judged.tokens
            columns = {
                **tokens.columns,
                "origin": str(judged.row.origin),
                "length": tokens.length,
            }
            for _ in range(judged.times):
                (held_out if judged.held_out else train).add(columns)
    check(gathering.report, recipe.data)
    return files, gathering.report


def check(report: DataReport, data: DataOptions) -> None:
    """Refuse data of which nothing or not all can be used.

    Raises:
        InputError: see `gather`.
    """
    if report.refused and data.bad_rows == "stop":
        some = "; ".join(map(str, report.refused[:SHOWN]))
        rest = len(report.refused) - SHOWN
        more = f"; and {rest} more" if rest > 0 else ""
        raise InputError(
            f"{len(report.refused)} rows cannot be used: {some}{more}. Correct them, or set "
            "data.bad_rows to skip."
        )
    if report.train == 0:
        raise InputError(
            f"No row is left to train on: {report.read} were read, {len(report.refused)} refused, "
            f"{report.duplicates} duplicates, {len(report.too_long)} too long, {report.held_out} "
            "held out; give more data, or raise data.longest."
        )


class Gathering:
    """Judges the rows of a recipe, one after the other.

    Args:
        data: which rows, and how they are judged.
        kind: what the method takes.
        template: the base's.
    """

    def __init__(self, data: DataOptions, kind: Kind, template: ChatTemplate) -> None:
        self.report = DataReport()
        self._data = data
        self._kind = kind
        self._erased = Erased()
        self._masker = Masker(template, data.longest, cut=data.too_long == "cut")

    def rows(self) -> Iterator[Judged]:
        """Give each row that is used."""
        data = self._data
        own = () if isinstance(data.held_out, float) else data.held_out
        with ExitStack() as stack:
            # Held-out sources go first, so that what is in both is never trained on.
            seen = stack.enter_context(Duplicates(data.duplicates))
            sources = chain(((one, True) for one in own), ((one, False) for one in data.train))
            for source, held_out in sources:
                for row in self._of_source(source):
                    if judged := self._judge(row, source, held_out, seen):
                        yield judged

    def _of_source(self, source: Source) -> Iterator[Row]:
        if source.path.startswith(OWN):
            yield from self._own(source.path.removeprefix(OWN) or None)
            return
        form: Format | None = None
        for read in read_records(source.path, source.split):
            self.report.read += 1
            try:
                form, rows = self._read(read, form)
            except InputError as error:
                self._refuse(read.source, read.line, str(error))
                continue
            yield from rows

    def _own(self, user: str | None) -> Iterator[Row]:
        self.report.formats[OWN] = f"our own store, {self._kind}s"

        async def opened() -> AsyncGenerator[Row, None]:
            store = await open_store(settings())
            try:
                async for row in own_rows(store, self._kind, user, consent=self._data.consent):
                    yield row
            finally:
                await store.close()

        for row in iterate(opened()):
            self.report.read += 1
            yield row

    def _read(self, read: Read, form: Format | None) -> tuple[Format, list[Row]]:
        """Make rows of a record; all of a source have the form of its first."""
        if read.record is None:
            raise InputError(read.problem)
        found = find_format(read.record)
        if form is None:
            self.report.formats[read.source] = found.name
        elif found.name != form.name:
            raise InputError(f"it is written as {found.name} in a file of {form.name}")
        rows = rows_of(read.record, found, _origin(read))
        return found, [one for row in rows for one in as_kind(row, self._kind)]

    def _judge(self, row: Row, source: Source, held_out: bool, seen: Duplicates) -> Judged | None:
        report, origin = self.report, row.origin
        if self._erased.has(origin.conversation):
            report.erased += 1
            return None
        if not seen.is_new(row_texts(row)):
            report.duplicates += 1
            return None
        try:
            tokens = self._masker.tokens(row)
        except TooLong as error:
            report.too_long.append(Refused(origin.source, origin.line, str(error)))
            return None
        except InputError as error:
            self._refuse(origin.source, origin.line, str(error))
            return None
        held_out = held_out or self._is_held_out(row)
        if not held_out and self._spent:
            report.over_budget += 1
            return None
        times = 1 if held_out else _times(source.weight, row)
        self._count(row, tokens, held_out, times)
        return Judged(row, held_out, tokens, times)

    def _count(self, row: Row, tokens: Tokens, held_out: bool, times: int) -> None:
        report = self.report
        report.cut += tokens.cut > 0
        if held_out:
            report.held_out += 1
            return
        report.train += times
        if times:
            report.note_person(row.origin)
        for _ in range(times):
            report.note_length(tokens.length, tokens.trained)
        if isinstance(row, Pair) and _one_begins_the_other(row):
            report.differing_in_length += 1

    @property
    def _spent(self) -> bool:
        budget = self._data.token_budget
        return budget is not None and self.report.tokens >= budget

    def _is_held_out(self, row: Row) -> bool:
        """Draw by whose it is, so that nobody and no conversation is on both sides."""
        share = self._data.held_out
        if not isinstance(share, float):
            return False
        group = row.origin.group or "\0".join(m.content for m in row.messages[:2])
        return _draw(group) < share

    def _refuse(self, source: str, line: int, reason: str) -> None:
        self.report.refused.append(Refused(source, line, reason))


def as_kind(row: Row, kind: Kind) -> list[Row]:
    """Make a row into those of another kind where that loses no truth.

    Raises:
        InputError: it does not.
    """
    if row.kind == kind:
        return [row]
    match row, kind:
        case Pair(asked=asked, chosen=chosen, rejected=rejected, origin=origin), "thumb":
            return [Thumb(asked, chosen, True, origin), Thumb(asked, rejected, False, origin)]
        case Pair(origin=origin), "example":
            return [Example(row.messages, origin, last_only=True)]
        case Example(origin=origin), "question" if row.messages[-1].role == "assistant":
            return [Question(row.asked, row.messages[-1].content, origin)]
        case Question(asked=asked, reference=str(reference), origin=origin), "example":
            return [Example((*asked, assistant(reference)), origin)]
    raise InputError(f"it is a {row.kind}, and this method learns from a {kind}")


def _origin(read: Read) -> Origin:
    record = read.record or {}
    user, conversation = (record.get(name) for name in ("user", "conversation"))
    return Origin(
        read.source,
        read.line,
        user if isinstance(user, str) else None,
        conversation if isinstance(conversation, str) else None,
    )


def _times(weight: float, row: Row) -> int:
    """Say how often a row is taken: the whole part always, the rest by a fixed draw."""
    whole = int(weight)
    return whole + (_draw(str(row.origin)) < weight - whole)


def _draw(text: str) -> float:
    """Give a number from 0 to 1 that is always the same for a text."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _one_begins_the_other(pair: Pair) -> bool:
    chosen, rejected = pair.chosen.content.strip(), pair.rejected.content.strip()
    return chosen.startswith(rejected) or rejected.startswith(chosen)
