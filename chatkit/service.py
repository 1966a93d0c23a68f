"""Opens the chat service, and gives the one that a process shares."""

import asyncio
from weakref import WeakKeyDictionary

from chatkit.cache import AnswerCache
from chatkit.chat import ChatService
from chatkit.models import Models, shared_models
from chatkit.rooms import lasting_room, temporary_room
from chatkit.settings import Settings, settings

_Key = tuple[Settings, Models, bool]
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, asyncio.Future[ChatService]]] = (
    WeakKeyDictionary()
)


async def open_chat_service(
    settings: Settings,
    models: Models,
    *,
    titles: bool = True,
    unwatched_seconds: float | None = None,
) -> ChatService:
    """Open the service with the database, the keys and the Redis that the settings name.

    Args:
        settings: what the environment says.
        models: lends engines.
        titles: whether the model gives new conversations a title.
        unwatched_seconds: stop an answer that nobody has watched for so long; None goes on.

    Raises:
        StoreUnavailable: the database, the key store or Redis does not answer.
        DatabaseVersion: a newer program made the database.
        KeyUnavailable: the master key is missing or another one.
    """
    answers = AnswerCache() if settings.answer_cache else AnswerCache(most=0)
    lasting = await lasting_room(settings, models, answers, unwatched_seconds)
    temporary = await temporary_room(models, answers)
    service = ChatService(
        lasting, temporary, answers, titles=titles, retention_days=settings.retention_days
    )
    try:
        await service.open()
    except BaseException:
        await service.close()
        raise
    return service


async def shared_service(models: Models | None = None, *, titles: bool = True) -> ChatService:
    """Give the service of this event loop and these settings, opened when it is first asked for.

    Args:
        models: lends engines; those that the process shares when None.
        titles: whether the model gives new conversations a title.

    Raises: as `open_chat_service`.
    """
    opened = _shared.setdefault(asyncio.get_running_loop(), {})
    key = (settings(), models or shared_models(), titles)
    if key not in opened:
        opened[key] = asyncio.ensure_future(open_chat_service(*key[:2], titles=titles))
    try:
        return await asyncio.shield(opened[key])
    except BaseException:
        # What failed is tried again by whoever asks next; who left early takes nothing along.
        if opened[key].done():
            opened.pop(key, None)
        raise


async def close_shared_services() -> None:
    """Close every service that this event loop shares."""
    for opening in _shared.pop(asyncio.get_running_loop(), {}).values():
        await (await opening).close()
