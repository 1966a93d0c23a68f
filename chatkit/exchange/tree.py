"""Puts the messages of a tree in order: parents first, otherwise the oldest first."""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Protocol, TypeVar

from chatkit.exchange.place import Place


class Linked(Protocol):
    """What has a name, and names what stands before it."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def parent(self) -> str | None:
        """The name of what stands before it."""
        ...


Node = TypeVar("Node", bound=Linked)


def in_order(nodes: Sequence[Node], times: Sequence[float | None], place: Place) -> list[Node]:
    """Order nodes so that each comes after its parent.

    Args:
        nodes: the nodes of one conversation, in any order.
        times: when each was made; None is the time of its parent, and equal times keep the order.
        place: the conversation.

    Raises:
        ImportRefused: an id is there twice, a parent is missing, or parents go in a circle.
    """
    children = _children(nodes, place)
    waiting: list[tuple[float, int]] = []
    ordered: list[Node] = []

    def queue(parent: str | None, earlier: float) -> None:
        for index in children.get(parent, ()):
            time = times[index]
            heappush(waiting, (earlier if time is None else time, index))

    queue(None, 0.0)
    while waiting:
        time, index = heappop(waiting)
        ordered.append(nodes[index])
        queue(nodes[index].id, time)
    if len(ordered) < len(nodes):
        reached = {node.id for node in ordered}
        lost = next(node.id for node in nodes if node.id not in reached)
        raise place.at(lost).refused("its parents go in a circle")
    return ordered


def _children(nodes: Sequence[Node], place: Place) -> dict[str | None, list[int]]:
    """Give the positions of the nodes after each node, and of those at the beginning."""
    names: set[str] = set()
    for node in nodes:
        if node.id in names:
            raise place.at(node.id).refused("this id is there twice")
        names.add(node.id)
    children: dict[str | None, list[int]] = {}
    for index, node in enumerate(nodes):
        if node.parent is not None and node.parent not in names:
            raise place.at(node.id).refused("its parent is not in the file")
        children.setdefault(node.parent, []).append(index)
    return children
