"""The questions that are asked of the tree of messages; each is answered by an index."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, func, literal, or_, select

from chatkit.store.schema import answers, nodes

_ANSWER_COLUMNS = tuple(column for column in answers.c if column.name != "sealed_ledger")


def with_facts() -> Select[Any]:
    """Messages, each with how it came about where it is an answer."""
    return select(nodes, *_ANSWER_COLUMNS).select_from(
        nodes.outerjoin(answers, answers.c.node_id == nodes.c.id)
    )


def path_query(conversation: str, head: str, limit: int) -> Select[Any]:
    """The messages from `head` back to the beginning, so many at most."""
    start = select(nodes.c.number, nodes.c.parent, literal(1).label("depth")).where(
        nodes.c.id == head, nodes.c.conversation_id == conversation
    )
    walk = start.cte("walk", recursive=True)
    step = (
        select(nodes.c.number, nodes.c.parent, walk.c.depth + 1)
        .select_from(walk.join(nodes, nodes.c.id == walk.c.parent))
        .where(walk.c.depth < limit)
    )
    walk = walk.union_all(step)
    return with_facts().join(walk, walk.c.number == nodes.c.number).order_by(walk.c.depth)


def children_query(conversation: str, parents: Iterable[str | None]) -> Select[Any]:
    """The names of the messages after some others, oldest first."""
    named = [parent for parent in parents if parent is not None]
    after = [nodes.c.parent.in_(named)]
    if None in parents:
        after.append(nodes.c.parent.is_(None))
    return (
        select(nodes.c.parent, nodes.c.id)
        .where(nodes.c.conversation_id == conversation, nodes.c.kind == "message", or_(*after))
        .order_by(nodes.c.number)
    )


def leaf_query(conversation: str, id: str) -> Select[Any]:
    """The name of the last message on the newest branch through `id`."""
    start = select(nodes.c.number, nodes.c.id, literal(1).label("depth")).where(
        nodes.c.id == id, nodes.c.conversation_id == conversation
    )
    walk = start.cte("walk", recursive=True)
    child = nodes.alias("child")
    newest = (
        select(func.max(child.c.number))
        .where(
            child.c.conversation_id == conversation,
            child.c.parent == walk.c.id,
            child.c.kind == "message",
        )
        .correlate(walk)
        .scalar_subquery()
    )
    step = select(nodes.c.number, nodes.c.id, walk.c.depth + 1).select_from(
        walk.join(nodes, nodes.c.number == newest)
    )
    walk = walk.union_all(step)
    return select(walk.c.id).order_by(walk.c.depth.desc()).limit(1)
