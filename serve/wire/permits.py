"""How many requests are worked on at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from serve.wire.refusals import Refusal, overloaded


class Permits:
    """Lets so many requests in, and refuses the next one at once.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a permit for as long as the block lasts, however it ends.

        Raises:
            Refusal: all are taken.
        """
        self.check()
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def check(self) -> None:
        """Refuse when all are taken.

        Raises:
            Refusal: all are taken.
        """
        if self.taken >= self._most:
            raise Refusal(overloaded())
