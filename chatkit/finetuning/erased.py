"""Which conversations were deleted in our own store: their rows are not trained on."""

from collections.abc import Callable

from chatkit.background import wait_for
from chatkit.settings import settings
from chatkit.store.opening import open_store


class Erased:
    """Asks the store's list of erasures; the store is opened when a row first names a conversation.

    Conversations have names that nobody else's files use, so others' rows are never left out.
    """

    def __init__(self) -> None:
        self._erased: Callable[[str], bool] | None = None

    def has(self, conversation: str | None) -> bool:
        """Tell whether a conversation was deleted here once."""
        if conversation is None:
            return False
        if self._erased is None:
            self._erased = wait_for(_read())
        return self._erased(conversation)


async def _read() -> Callable[[str], bool]:
    store = await open_store(settings())
    try:
        return await store.erasure.erased()
    finally:
        await store.close()
