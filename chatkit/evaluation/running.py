"""Asks a model the questions of a suite, several at once, and keeps every answer."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from chatkit.errors import InputError
from chatkit.evaluation.answering import Answering, Asked
from chatkit.evaluation.record import (
    ANSWERS,
    RECORD,
    AnswerLog,
    Record,
    Run,
    read_run,
    write_record,
)
from chatkit.evaluation.suite import Questions, Sample
from chatkit.evaluation.weights import weights_of
from chatkit.provenance import made_with

PACKAGES = ("chatkit-lab", "torch", "transformers", "xllamacpp", "lm-eval")
# So many failures in a row are the model's, and not the samples'.
PATIENCE = 5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asking:
    """How a suite is asked.

    Args:
        passes: how often each sample is asked; the second time tells the noise floor.
        streams: how many samples are asked at once.
    """

    passes: int = 1
    streams: int = 8


async def evaluate(
    questions: Questions,
    model: str,
    answering: Answering,
    folder: Path,
    asking: Asking = Asking(),
    say: Say = lambda line: None,
) -> Run:
    """Ask what a run does not have yet; stopped half-way, it can go on later.

    Args:
        questions: what is asked.
        model: the model's name as it was asked for.
        answering: who answers.
        folder: where the run lies; one of the same suite and model goes on.
        asking: how.
        say: is told how far it is.

    Raises:
        InputError: the folder holds another run, or something else.
        Unsupported: the engine cannot do what the suite asks for.
    """
    record = new_record(questions, model, answering.asked, asking)
    left = begin(questions, record, folder, asking)
    try:
        await ask(left, answering, folder / ANSWERS, asking.streams, say)
    finally:
        finish(record, folder)
    return read_run(folder)


def begin(
    questions: Questions, record: Record, folder: Path, asking: Asking
) -> list[tuple[Sample, int]]:
    """Begin a run, or go on with one, and give what is left to ask.

    Raises:
        InputError: the folder holds another run, or something else.
    """
    done = _begun(folder, record)
    write_record(folder, record)
    return [each for each in _order(questions, asking) if (each[0].id, each[1]) not in done]


async def ask(
    left: Sequence[tuple[Sample, int]], answering: Answering, file: Path, streams: int, say: Say
) -> None:
    """Ask samples, several at once, and write each answer as it comes.

    Args:
        left: the samples, with which time each is asked.
        answering: who answers.
        file: where the answers go.
        streams: how many are asked at once.
        say: is told how far it is.
    """
    log = AnswerLog(file)
    try:
        await _Asker(answering, log, len(left), say).ask(left, streams)
    finally:
        log.close()


def finish(record: Record, folder: Path) -> None:
    """Write whether a run is whole."""
    run = read_run(folder)
    whole = not run.missing and not run.failed
    finished = {**record.made, "finished": _now()}
    write_record(folder, replace(record, status="complete" if whole else "partial", made=finished))


class _Asker:
    def __init__(self, answering: Answering, log: AnswerLog, left: int, say: Say) -> None:
        self._answering = answering
        self._log = log
        self._left = left
        self._say = say
        self._done = 0
        self._failures = 0

    async def ask(self, left: Sequence[tuple[Sample, int]], streams: int) -> None:
        waiting = iter(left)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(streams, len(left))):
                    group.create_task(self._worker(waiting))
        except ExceptionGroup as failures:
            # One is enough to say what is wrong.
            raise failures.exceptions[0] from None

    async def _worker(self, waiting: Iterator[tuple[Sample, int]]) -> None:
        for sample, turn in waiting:
            if self._failures >= PATIENCE:
                return
            answer = await self._answering.answer(sample, turn)
            self._log.add(answer)
            self._done += 1
            self._failures = self._failures + 1 if answer.error else 0
            if self._done % 10 == 0 or self._done == self._left:
                self._say(f"{self._done} of {self._left} answered")
            if self._failures == PATIENCE:
                self._say(f"stopped after {PATIENCE} failures in a row: {answer.error}")


def _order(questions: Questions, asking: Asking) -> list[tuple[Sample, int]]:
    """Give samples longest first, so that the end is not a wait for one; passes turn that round."""
    by_length = sorted(questions.samples, key=lambda sample: -sum(map(len, sample.turns)))
    return [
        (sample, turn)
        for turn in range(asking.passes)
        for sample in (by_length if turn % 2 == 0 else by_length[::-1])
    ]


def _begun(folder: Path, record: Record) -> set[tuple[str, int]]:
    """Tell what a folder has answers for already; failures are asked again.

    Raises:
        InputError: it holds another run, or something else.
    """
    if not (folder / RECORD).exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"The folder {folder} is not empty; choose another one.")
        folder.mkdir(parents=True, exist_ok=True)
        return set()
    run = read_run(folder)
    for name in ("suite", "identity", "model", "weights", "template", "sampling", "passes"):
        before, now = asdict(run.record)[name], asdict(record)[name]
        if before != now:
            raise InputError(
                f"The folder {folder} holds another run: its {name} is {before}, and this one's "
                f"{now}; choose another folder."
            )
    return {key for key, answer in run.answers.items() if not answer.error}


def new_record(questions: Questions, model: str, asked: Asked, asking: Asking) -> Record:
    """Say how a run that begins now is made."""
    return Record(
        questions.suite.name,
        questions.identity,
        model,
        asked.engine,
        weights_of(model),
        asked.template,
        questions.suite.drawn.model_dump(mode="json", exclude_defaults=True),
        len(questions.samples),
        asking.passes,
        "running",
        {
            "began": _now(),
            "streams": asking.streams,
            "memory_bytes": asked.memory,
            **made_with(PACKAGES),
        },
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
