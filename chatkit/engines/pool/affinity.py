"""Which server has the beginning of a prompt in its cache, as far as the pool can know."""

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

Place = TypeVar("Place", bound=Hashable)


def path_of(ids: Sequence[int], block: int, seed: str = "") -> tuple[bytes, ...]:
    """Give a rolling hash at the end of each full block, the shortest beginning first.

    Two prompts have a hash in common exactly when they are equal up to there.

    Args:
        ids: the prompt's tokens.
        block: how many tokens make a block.
        seed: what the cached prefix depends on besides, such as the adapter.
    """
    rolling = blake2b(seed.encode(), digest_size=16)
    packed = memoryview(array("I", ids)).cast("B")
    size = block * array("I").itemsize
    path = []
    for end in range(size, len(packed) + 1, size):
        rolling.update(packed[end - size : end])
        path.append(rolling.digest())
    return tuple(path)


class Affinity(Generic[Place]):
    """Remembers where prompts went, a bounded number of them; whoever owns it holds a lock.

    Only where each prompt ends is remembered. The next turn of a conversation has that point on
    its path, while another conversation under the same system prompt has not, so that
    conversations do not gather where the first of them happened to go.

    Args:
        most: how many prompts; those that were longest without use are forgotten first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._places: OrderedDict[bytes, Place] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def find(self, path: Sequence[bytes]) -> Place | None:
        """Give the place of the longest prompt that this one continues; None when there is none."""
        for point in reversed(path):
            if point in self._places:
                self._places.move_to_end(point)
                return self._places[point]
        return None

    def note(self, path: Sequence[bytes], place: Place) -> None:
        """Remember where a prompt went; one without a full block is not worth it."""
        if not path:
            return
        self._places[path[-1]] = place
        self._places.move_to_end(path[-1])
        while len(self._places) > self.most:
            self._places.popitem(last=False)

    def forget(self, place: Place) -> None:
        """Forget a place that is gone, or whose cache is."""
        for point in [point for point, at in self._places.items() if at == place]:
            del self._places[point]
