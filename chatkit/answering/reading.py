"""What the model is given for an answer: the path, fitted into its window."""

import asyncio
from collections.abc import Sequence

from chatkit.answering.job import Bench, Job
from chatkit.answering.summaries import write_summary
from chatkit.context import Budget, Item, Plan, Summary, plan
from chatkit.engine import Engine
from chatkit.errors import PromptTooLong
from chatkit.messages import system
from chatkit.store.new_node import NewNode
from chatkit.store.records import ConversationSettings, NodeRecord

# The question, the answer before it and the question before that: what a turn adds.
LAST_TURN = 3


async def read_path(bench: Bench, job: Job) -> tuple[NodeRecord, ...]:
    """Give the path to the question, of which only the end is read where the rest was just read.

    Raises:
        NotFound: the conversation or the message does not exist, or is someone else's.
    """
    place = (job.user, job.conversation, job.question)
    tail = await bench.store.nodes.path(*place, limit=LAST_TURN)
    path = bench.paths.extend(job.conversation, tail)
    if path is None:
        whole = tail[0].parent is None
        path = tail if whole else await bench.store.nodes.path(*place)
    bench.paths.put(job.conversation, path)
    return path


async def fit(bench: Bench, job: Job, engine: Engine) -> Plan:
    """Choose what the model is given, asking it for a summary where the policy wants one.

    Raises:
        PromptTooLong: what must stay does not fit.
        TemplateError: the template refuses the messages.
    """
    settings = (await bench.store.conversations.find(job.user, job.conversation)).settings
    path = await read_path(bench, job)
    items = [Item(node.id, node.message, node.pinned) for node in answered(path)]
    budget = Budget(engine.context, _answer_tokens(job, engine))
    if settings.policy != "summarise":
        return await _plan_with_less_answer(engine, items, settings, budget)
    summary = await _stored_summary(bench, job, path)
    made = await _plan(engine, items, settings, budget, summary)
    if not made.leaving:
        return made
    text = await write_summary(engine, summary, [item.message for item in made.leaving])
    if not text:
        return made
    summary = await _store_summary(bench, job, text, made.leaving[-1].id)
    return await _plan(engine, items, settings, budget, summary)


def answered(path: Sequence[NodeRecord]) -> tuple[NodeRecord, ...]:
    """Leave out answers of which nothing came, with the questions that they left unanswered."""
    said: list[NodeRecord] = []
    for node in path:
        if node.message.role == "assistant" and not node.message.content:
            while said and said[-1].message.role != "assistant":
                said.pop()
        else:
            said.append(node)
    return tuple(said)


async def _plan_with_less_answer(
    engine: Engine, items: Sequence[Item], settings: ConversationSettings, budget: Budget
) -> Plan:
    """Rather answer a long question in fewer words than not at all."""
    try:
        return await _plan(engine, items, settings, budget, None)
    except PromptTooLong:
        if settings.policy == "refuse":
            raise
        least = Budget(engine.context, min(budget.answer, engine.context // 16))
        return await _plan(engine, items, settings, least, None)


async def _plan(
    engine: Engine,
    items: Sequence[Item],
    settings: ConversationSettings,
    budget: Budget,
    summary: Summary | None,
) -> Plan:
    def work() -> Plan:
        return plan(
            engine.template,
            items,
            system=settings.system or None,
            budget=budget,
            policy=settings.policy,
            summary=summary,
        )

    return await asyncio.to_thread(work)


def _answer_tokens(job: Job, engine: Engine) -> int:
    """How much room is kept for the answer: what was asked for, at most half of the window."""
    wanted = job.options.sampling.max_tokens or engine.defaults.max_tokens
    return min(wanted or max(engine.context // 4, 256), engine.context // 2)


async def _stored_summary(bench: Bench, job: Job, path: Sequence[NodeRecord]) -> Summary | None:
    ids = [node.id for node in path]
    found = await bench.store.nodes.summary_on(job.user, job.conversation, ids)
    if found is None or found.parent is None:
        return None
    return Summary(found.id, found.message.content, found.parent)


async def _store_summary(bench: Bench, job: Job, text: str, upto: str) -> Summary:
    node = NewNode(system(text), upto, kind="summary")
    await bench.store.nodes.add(job.user, job.conversation, [node])
    return Summary(node.id, text, upto)
