"""A queue that is fair between users: they take turns, and each one's requests keep their order."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Holds what waits; whoever owns it holds a lock.

    A user who was served goes to the end of the round, so that nobody is served twice while
    another waits who could be served.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Item]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """Everything that waits; in no order that matters."""
        return (item for line in list(self._lines.values()) for item in list(line))

    def length(self, user: str) -> int:
        """Tell how many items of one user wait."""
        return len(self._lines.get(user, ()))

    def push(self, user: str, item: Item, *, first: bool = False) -> None:
        """Let an item wait.

        Args:
            user: whose it is.
            item: what waits.
            first: before all others of this user and as the next in the round: it has been at
                its turn before.
        """
        line = self._lines.setdefault(user, deque())
        if first:
            line.appendleft(item)
            self._lines.move_to_end(user, last=False)
        else:
            line.append(item)
        self._length += 1

    def heads(self) -> list[tuple[str, Item]]:
        """Give the first item of each user, whose turn it is first."""
        return [(user, line[0]) for user, line in self._lines.items()]

    def take(self, user: str) -> Item:
        """Take a user's first item out; it was this user's turn."""
        item = self._lines[user].popleft()
        self._lines.move_to_end(user)
        self._tidy(user)
        return item

    def remove(self, user: str, item: Item) -> bool:
        """Take an item out that waits no more; tells whether it was there."""
        line = self._lines.get(user)
        if line is None or item not in line:
            return False
        line.remove(item)
        self._tidy(user)
        return True

    def _tidy(self, user: str) -> None:
        self._length -= 1
        if not self._lines[user]:
            del self._lines[user]
