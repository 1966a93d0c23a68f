"""Asks a model the questions of a suite, several at once, and keeps every answer."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from chatkit.engine import Delta, Engine, complete
from chatkit.errors import EngineError, InputError
from chatkit.evaluation.record import (
    ANSWERS,
    RECORD,
    Answer,
    AnswerLog,
    Record,
    Run,
    read_run,
    write_record,
)
from chatkit.evaluation.suite import Questions, Sample
from chatkit.messages import Message, assistant, system, user
from chatkit.prompt import Prompt, build_prompt
from chatkit.provenance import made_with
from chatkit.sampling import Sampling
from chatkit.scorers.talking import talk_scorer

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
    engine: Engine,
    folder: Path,
    asking: Asking = Asking(),
    say: Say = lambda line: None,
) -> Run:
    """Ask what a run does not have yet; stopped half-way, it can go on later.

    Args:
        questions: what is asked.
        model: the model's name as it was asked for.
        engine: who answers.
        folder: where the run lies; one of the same suite and model goes on.
        asking: how.
        say: is told how far it is.

    Raises:
        InputError: the folder holds another run, or something else.
        Unsupported: the engine cannot do what the suite asks for.
    """
    record = _record(questions, model, engine, asking)
    done = _begun(folder, record)
    left = [each for each in _order(questions, asking) if (each[0].id, each[1]) not in done]
    write_record(folder, record)
    log = AnswerLog(folder / ANSWERS)
    runner = _Runner(questions, engine, log, len(left), say)
    try:
        await runner.ask(left, asking.streams)
    finally:
        log.close()
        run = read_run(folder)
        whole = len(run.answers) == len(questions.samples) * asking.passes and not run.failed
        finished = {**record.made, "finished": _now()}
        ended = replace(record, status="complete" if whole else "partial", made=finished)
        write_record(folder, ended)
    return read_run(folder)


class _Runner:
    def __init__(
        self, questions: Questions, engine: Engine, log: AnswerLog, left: int, say: Say
    ) -> None:
        self._questions = questions
        self._engine = engine
        self._log = log
        self._left = left
        self._say = say
        self._done = 0
        self._failures = 0

    async def ask(self, left: list[tuple[Sample, int]], streams: int) -> None:
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
            answer = await self._answer(sample, turn)
            self._log.add(answer)
            self._done += 1
            self._failures = self._failures + 1 if answer.error else 0
            if self._done % 10 == 0 or self._done == self._left:
                self._say(f"{self._done} of {self._left} answered")
            if self._failures == PATIENCE:
                self._say(f"stopped after {PATIENCE} failures in a row: {answer.error}")

    async def _answer(self, sample: Sample, turn: int) -> Answer:
        asked = Answer(sample.id, turn, sample.turns, (), None, slices=sample.slices)
        try:
            if self._questions.suite.kind == "choice":
                return await self._choose(sample, asked)
            return await self._talk(sample, asked)
        except (EngineError, InputError) as error:
            return replace(asked, error=str(error))

    async def _talk(self, sample: Sample, answer: Answer) -> Answer:
        suite, messages = self._questions.suite, self._opening()
        # Another pass draws otherwise, where it draws at all.
        drawn = suite.drawn.model_copy(update={"seed": suite.seed + answer.turn})
        last, prompt = Delta(""), Prompt((), "", (), "")
        tokens, seconds = 0, 0.0
        for question in sample.turns:
            messages.append(user(question))
            prompt = build_prompt(self._engine.template, messages)
            text, last = await complete(self._engine, prompt, drawn)
            messages.append(assistant(text))
            if last.usage:
                tokens += last.usage.completion_tokens
                seconds += last.usage.total_seconds - last.usage.queued_seconds
        said = tuple(m.content for m in messages if m.role == "assistant")
        talk = {name: talk_scorer(name)(messages).value for name in suite.talk}
        score, why = await self._score(sample, said[-1], talk)
        return replace(
            answer,
            said=said,
            score=score,
            explanation=why,
            talk=talk,
            prompt_ids=prompt.ids,
            finish=last.finish or "",
            completion_tokens=tokens,
            first_token_seconds=last.usage.first_token_seconds if last.usage else 0.0,
            seconds=seconds,
        )

    async def _score(self, sample: Sample, said: str, talk: dict[str, float]) -> tuple[float, str]:
        if sample.scorer is None and self._questions.suite.scorer is None:
            return sum(talk.values()) / len(talk), "mean of the conversation's scores"
        scorer = self._questions.scorer(sample)
        # Code is run, which takes a while.
        score = await asyncio.to_thread(scorer, sample.turns[-1], said, sample.reference)
        return score.value, score.explanation

    async def _choose(self, sample: Sample, answer: Answer) -> Answer:
        began = time.monotonic()
        prompt = build_prompt(self._engine.template, [*self._opening(), *map(user, sample.turns)])
        chances = await self._engine.score(prompt, sample.choices)
        chosen = sample.choices[chances.index(max(chances))]
        told = ", ".join(
            f"{choice}: {chance:.2f}"
            for choice, chance in zip(sample.choices, chances, strict=True)
        )
        return replace(
            answer,
            said=(chosen,),
            score=float(chosen == sample.reference),
            explanation=told,
            prompt_ids=prompt.ids,
            seconds=time.monotonic() - began,
        )

    def _opening(self) -> list[Message]:
        said = self._questions.suite.system
        return [system(said)] if said else []


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
    for name in ("suite", "identity", "model", "template", "sampling", "passes"):
        before, now = asdict(run.record)[name], asdict(record)[name]
        if before != now:
            raise InputError(
                f"The folder {folder} holds another run: its {name} is {before}, and this one's "
                f"{now}; choose another folder."
            )
    return {key for key, answer in run.answers.items() if not answer.error}


def _record(questions: Questions, model: str, engine: Engine, asking: Asking) -> Record:
    drawn: Sampling = questions.suite.drawn
    return Record(
        questions.suite.name,
        questions.identity,
        model,
        engine.name,
        str(engine.template.identity),
        drawn.model_dump(mode="json", exclude_defaults=True),
        len(questions.samples),
        asking.passes,
        "running",
        {"began": _now(), "streams": asking.streams, **made_with(PACKAGES)},
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
