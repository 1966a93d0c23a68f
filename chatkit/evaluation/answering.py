"""Asks a model one sample of a suite, and scores what it says."""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Protocol

from chatkit.engine import Delta, Engine, complete
from chatkit.errors import EngineError, InputError
from chatkit.evaluation.record import Answer
from chatkit.evaluation.suite import Questions, Sample
from chatkit.messages import Message, assistant, system, user
from chatkit.prompt import Prompt, build_prompt
from chatkit.scorers.talking import talk_scorer


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked.

    Args:
        engine: the engine's name.
        template: the identity of the template that renders the prompts.
        memory: bytes that the engine holds, as it estimates; 0 where a server does not tell.
    """

    engine: str
    template: str
    memory: int


class Answering(Protocol):
    """Answers samples, here or elsewhere.

    Attributes:
        asked: who is asked.
    """

    asked: Asked

    async def answer(self, sample: Sample, turn: int) -> Answer:
        """Ask one sample, the first time with turn 0."""
        ...


class EngineAnswering:
    """Answers samples with an engine of this process.

    Args:
        questions: the suite.
        engine: who answers.
    """

    def __init__(self, questions: Questions, engine: Engine) -> None:
        self.asked = Asked(engine.name, str(engine.template.identity), engine.resident_bytes)
        self._questions = questions
        self._engine = engine

    async def answer(self, sample: Sample, turn: int) -> Answer:
        """Ask one sample; a failure of the engine becomes part of the answer.

        Args:
            sample: what is asked.
            turn: which time it is asked, from 0.

        Raises:
            Unsupported: the engine cannot do what the suite asks for.
        """
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
