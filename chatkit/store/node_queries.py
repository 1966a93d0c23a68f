"""The questions that are asked of the tree of messages; each is answered by an index."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import CompoundSelect, Integer, Select, bindparam, func, literal, select, union_all

from chatkit.store.schema import answers, conversations, nodes

_ANSWER_COLUMNS = tuple(column for column in answers.c if column.name != "sealed_ledger")


def with_facts() -> Select[Any]:
    """Messages, each with how it came about where it is an answer."""
    return select(nodes, *_ANSWER_COLUMNS).select_from(
        nodes.outerjoin(answers, answers.c.node_id == nodes.c.id)
    )


# Statements are built once: putting one together takes longer than SQLite takes to answer it.


@cache
def path_query() -> Select[Any]:
    """The messages from `:head` back to the beginning, `:limit` at most, in `:conversation`."""
    start = select(nodes.c.number, nodes.c.parent, literal(1).label("depth")).where(
        nodes.c.id == bindparam("head"), nodes.c.conversation_id == bindparam("conversation")
    )
    walk = start.cte("walk", recursive=True)
    step = (
        select(nodes.c.number, nodes.c.parent, walk.c.depth + 1)
        .select_from(walk.join(nodes, nodes.c.id == walk.c.parent))
        .where(walk.c.depth < bindparam("limit", type_=Integer))
    )
    walk = walk.union_all(step)
    return with_facts().join(walk, walk.c.number == nodes.c.number).order_by(walk.c.depth)


def children(
    conversation: str, parents: Iterable[str | None]
) -> tuple[CompoundSelect[Any], dict[str, Any]]:
    """The names of the messages after some others, oldest first, and what is asked for."""
    wanted = set(parents)
    named = [parent for parent in wanted if parent is not None]
    return _children_query(None in wanted), {"conversation": conversation, "parents": named}


@cache
def _children_query(with_first: bool) -> CompoundSelect[Any]:
    """The first messages of all have no parent; one condition for both would use no index."""
    here = nodes.c.conversation_id == bindparam("conversation")
    found = select(nodes.c.parent, nodes.c.id, nodes.c.number).where(
        here, nodes.c.kind == "message"
    )
    parts = [found.where(nodes.c.parent.in_(bindparam("parents", expanding=True)))]
    if with_first:
        parts.append(found.where(nodes.c.parent.is_(None)))
    return union_all(*parts).order_by("number")


@cache
def leaf_query() -> Select[Any]:
    """The name of the last message on the newest branch of `:conversation` through `:id`."""
    start = select(nodes.c.number, nodes.c.id, literal(1).label("depth")).where(
        nodes.c.id == bindparam("id"), nodes.c.conversation_id == bindparam("conversation")
    )
    walk = start.cte("walk", recursive=True)
    child = nodes.alias("child")
    newest = (
        select(func.max(child.c.number))
        .where(
            child.c.conversation_id == bindparam("conversation"),
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


@cache
def before_adding_query() -> Select[Any]:
    """Four questions in one, since it stands in the way of every message.

    Whose `:conversation` it is; whether something was sent as `:client_id`; whether the `:parent`
    is there; and whether the message `:id` itself is, stored by a try that broke off before it
    could say so.
    """
    here = nodes.c.conversation_id == bindparam("conversation")
    asked = (
        select(nodes.c.id).where(here, column == bindparam(name)).scalar_subquery()
        for column, name in (
            (nodes.c.client_id, "client_id"),
            (nodes.c.id, "parent"),
            (nodes.c.id, "id"),
        )
    )
    return select(conversations.c.user_id, *asked).where(
        conversations.c.id == bindparam("conversation")
    )
