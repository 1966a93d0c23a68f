"""Where conversations live: on disk, or in memory only."""

import asyncio
import secrets
from dataclasses import dataclass

from chatkit import telemetry
from chatkit.answering.desk import Desk
from chatkit.answering.job import Bench
from chatkit.cache import AnswerCache, PathCache
from chatkit.live.opening import Live, open_live
from chatkit.models import Models
from chatkit.settings import Settings
from chatkit.store.opening import Store, open_store, open_temporary_store

STOPPING_SECONDS = 5.0
_TEMPORARY = "tmp"


@dataclass(frozen=True, slots=True)
class Room:
    """A store with what runs in it.

    Args:
        store: the conversations.
        live: the events of running answers.
        paths: paths that were just read.
        desk: the running answers.
        worker: the name of this process.
    """

    store: Store
    live: Live
    paths: PathCache
    desk: Desk
    worker: str

    async def open(self) -> None:
        """Find out whether everything answers, and give the first sign of life.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        await self.live.ready()
        await self.desk.open()

    async def close(self) -> None:
        """End running answers as interrupted, and close everything."""
        await self.desk.close()
        await self.live.close()
        await self.store.close()

    async def silence(
        self, user: str, conversation: str, only: frozenset[str] | None = None
    ) -> None:
        """Stop what is being written in a conversation and drop its live logs.

        Args:
            user: whose conversation it is.
            conversation: its name.
            only: the answers that are meant; None means all.

        Raises:
            NotFound: the conversation does not exist, or is someone else's.
        """

        async def running() -> list[str]:
            found = await self.store.answers.running(user, conversation)
            return [node.id for node in found if only is None or node.id in only]

        for node in await running():
            if not self.desk.stop(node):
                await self.store.answers.ask_to_stop(user, conversation, node)
        try:
            async with asyncio.timeout(STOPPING_SECONDS):
                while await running():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            # Its writer is dead or away; without the key what it writes can be read by nobody.
            telemetry.event("deleted while written")
        for answer in await self.store.answers.recent(user, conversation):
            if only is None or answer in only:
                await self.live.drop(answer)

    def forget(self, conversation: str) -> None:
        """Let nothing of a conversation stay in this process's memory."""
        self.paths.forget(conversation)
        self.desk.forget_texts()


async def lasting_room(
    settings: Settings,
    models: Models,
    answers: AnswerCache,
    unwatched_seconds: float | None = None,
) -> Room:
    """Open the room of conversations that are kept.

    Raises: as `open_store`.
    """
    store = await open_store(settings)
    return _room(store, open_live(settings.redis), models, answers, unwatched_seconds)


async def temporary_room(models: Models, answers: AnswerCache) -> Room:
    """Open the room of conversations that leave no trace."""
    return _room(await open_temporary_store(), open_live(None), models, answers, None)


def _room(
    store: Store,
    live: Live,
    models: Models,
    answers: AnswerCache,
    unwatched_seconds: float | None,
) -> Room:
    worker, paths = secrets.token_hex(8), PathCache()
    bench = Bench(store, live, models, answers, paths, worker)
    return Room(store, live, paths, Desk(bench, unwatched_seconds), worker)


def temporary_id() -> str:
    """Make the name of a conversation that leaves no trace."""
    return f"{_TEMPORARY}{secrets.token_hex(14)}"


def is_temporary(conversation: str) -> bool:
    """Tell from its name whether a conversation leaves no trace."""
    return conversation.startswith(_TEMPORARY)
