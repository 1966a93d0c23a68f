"""Opens what the commands over conversations need: the store, and nothing that runs by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chatkit.shelf import Shelf

# As `chatkit.shelf.LOCAL_USER`, which loads the database.
LOCAL_USER = "local"


@contextmanager
def opened_shelf(*, both_rooms: bool = False) -> "Iterator[Shelf]":
    """Open the conversations that the environment names; no model, no title and no heartbeat.

    Args:
        both_rooms: open the room of temporary conversations as well; it is empty in this process
            and takes a moment, and only the deletion of a user goes there.

    Raises: as `open_store`.
    """
    from chatkit.background import wait_for

    shelf = wait_for(_open(both_rooms))
    try:
        yield shelf
    finally:
        wait_for(_close(shelf))


async def _open(both_rooms: bool) -> "Shelf":
    from chatkit.cache import AnswerCache
    from chatkit.models import Models
    from chatkit.rooms import lasting_room, temporary_room
    from chatkit.settings import settings
    from chatkit.shelf import Shelf

    answers, models = AnswerCache(most=0), Models(budget=0)
    lasting = await lasting_room(settings(), models, answers)
    temporary = await temporary_room(models, answers) if both_rooms else lasting
    return Shelf(lasting, temporary, answers)


async def _close(shelf: "Shelf") -> None:
    for room in {id(room): room for room in (shelf.lasting, shelf.temporary)}.values():
        await room.close()
