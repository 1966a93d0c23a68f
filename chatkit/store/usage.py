"""What answers came to, by model and by day: counts only, nothing that anybody wrote."""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, Select, and_, case, cast, distinct, exists, func, select

from chatkit.store.database import Database
from chatkit.store.schema import answers, conversations, feedback, nodes
from chatkit.store.transaction import Transaction

DAY_SECONDS = 86_400
# Among so many of the newest answers a model's own are looked for.
_RECENT = 300
_question, _other = nodes.alias("question"), nodes.alias("other")


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one model's answers came to.

    Args:
        model: its name.
        answers: how many there were.
        tokens: how many were written.
        stopped: how many were stopped by who had asked.
        interrupted: how many a crash cut off.
        failed: how many came to nothing.
        regenerated: how many were asked for once more.
        edited: how many had their question put in other words afterwards.
        up: how many were liked.
        down: how many were disliked.
    """

    model: str
    answers: int
    tokens: int
    stopped: int
    interrupted: int
    failed: int
    regenerated: int
    edited: int
    up: int
    down: int


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How often something went wrong.

    Args:
        kind: of the error.
        model: that was asked.
        count: how often.
        last: the last time, in seconds since 1970.
    """

    kind: str
    model: str
    count: int
    last: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What all answers of some days came to.

    Args:
        people: how many asked.
        models: one row for each model, the most used first.
        days: answers by model, by day since 1970.
        errors: the most frequent first.
    """

    people: int
    models: tuple[ModelUsage, ...]
    days: dict[int, dict[str, int]]
    errors: tuple[ErrorCount, ...]


class UsageReader:
    """Counts answers.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def speed(self, model: str) -> float | None:
        """Tell how many tokens a second a model has written lately; None when it has not."""
        recent = (
            select(answers.c.model, answers.c.completion_tokens, answers.c.stage_seconds)
            .join(nodes, nodes.c.id == answers.c.node_id)
            .order_by(nodes.c.number.desc())
            .limit(_RECENT)
        )

        async def ask(connection: Transaction) -> list[Any]:
            return list(await connection.execute(recent))

        rows = [row for row in await self._database.read(ask) if row.model == model]
        timed = [
            (row.completion_tokens - 1, json.loads(row.stage_seconds or "{}").get("writing", 0.0))
            for row in rows
            if row.completion_tokens and row.completion_tokens > 1
        ]
        seconds = sum(one for _, one in timed)
        return sum(tokens for tokens, _ in timed) / seconds if seconds else None

    async def since(self, moment: float) -> Usage:
        """Count the answers that were begun after a moment, in seconds since 1970."""

        async def ask(connection: Transaction) -> list[list[Any]]:
            queries = (_people(moment), _models(moment), _days(moment), _errors(moment))
            return [list(await connection.execute(query)) for query in queries]

        people, models, days, errors = await self._database.read(ask)
        by_day: dict[int, dict[str, int]] = {}
        for day, model, count in days:
            by_day.setdefault(day, {})[model] = count
        return Usage(
            people[0][0],
            tuple(ModelUsage(*row) for row in models),
            by_day,
            tuple(ErrorCount(*row) for row in errors),
        )


def _answers_since(moment: float, *columns: Any) -> Select[Any]:
    query = select(*columns).select_from(answers)
    return query.join(nodes, nodes.c.id == answers.c.node_id).where(nodes.c.created >= moment)


def _people(moment: float) -> Select[Any]:
    query = _answers_since(moment, func.count(distinct(conversations.c.user_id)))
    return query.join(conversations, conversations.c.id == nodes.c.conversation_id)


def _models(moment: float) -> Select[Any]:
    def count(condition: Any) -> Any:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    again = exists().where(
        _other.c.conversation_id == nodes.c.conversation_id,
        _other.c.parent == nodes.c.parent,
        _other.c.role == "assistant",
        _other.c.number > nodes.c.number,
    )
    other_words = exists().where(
        _other.c.conversation_id == _question.c.conversation_id,
        _other.c.parent.is_not_distinct_from(_question.c.parent),
        _other.c.role == "user",
        _other.c.number > _question.c.number,
    )
    total = func.count(distinct(answers.c.node_id))
    query = _answers_since(
        moment,
        answers.c.model,
        total,
        func.coalesce(func.sum(answers.c.completion_tokens), 0),
        count(answers.c.status == "stopped"),
        count(answers.c.status == "interrupted"),
        count(answers.c.status == "failed"),
        count(again),
        count(other_words),
        count(feedback.c.thumb == "up"),
        count(feedback.c.thumb == "down"),
    )
    # A conversation is one person's, so an answer has one opinion at most.
    query = query.outerjoin(feedback, feedback.c.node_id == answers.c.node_id)
    same = and_(
        _question.c.id == nodes.c.parent, _question.c.conversation_id == nodes.c.conversation_id
    )
    query = query.outerjoin(_question, same)
    return query.group_by(answers.c.model).order_by(total.desc(), answers.c.model)


def _days(moment: float) -> Select[Any]:
    day = cast(func.floor(nodes.c.created / DAY_SECONDS), Integer)
    query = _answers_since(moment, day.label("day"), answers.c.model, func.count())
    return query.group_by("day", answers.c.model).order_by("day")


def _errors(moment: float) -> Select[Any]:
    count, last = func.count(), func.max(nodes.c.created)
    query = _answers_since(moment, answers.c.error_kind, answers.c.model, count, last)
    query = query.where(answers.c.error_kind.is_not(None))
    return query.group_by(answers.c.error_kind, answers.c.model).order_by(count.desc()).limit(50)
