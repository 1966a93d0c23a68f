"""Tells the pages of this process that something was done in a conversation that they show."""

from collections.abc import Callable

Reader = Callable[[], None]


class Notices:
    """Who shows which conversation; a page of another process finds out by looking."""

    def __init__(self) -> None:
        self._readers: dict[str, set[Reader]] = {}

    def join(self, conversation: str, reader: Reader) -> None:
        """Call a reader whenever something is done in a conversation."""
        self._readers.setdefault(conversation, set()).add(reader)

    def leave(self, conversation: str, reader: Reader) -> None:
        """Call a reader no longer."""
        readers = self._readers.get(conversation, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(conversation, None)

    def tell(self, conversation: str, teller: Reader) -> None:
        """Call all readers of a conversation but the one who did it."""
        for reader in list(self._readers.get(conversation, ())):
            if reader != teller:
                reader()


shared_notices = Notices()
