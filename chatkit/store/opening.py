"""Opens a store: its database, its keys, and everything that reads and writes them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from chatkit.sealing import new_key
from chatkit.settings import Settings
from chatkit.store.answers import Answers
from chatkit.store.audit import Audit
from chatkit.store.conversations import Conversations
from chatkit.store.copies import Copies
from chatkit.store.database import Database
from chatkit.store.erasure import Erasure
from chatkit.store.keys import Keys
from chatkit.store.master_key import MasterKey
from chatkit.store.migrate import make_in_memory, ready
from chatkit.store.nodes import Nodes
from chatkit.store.opinions import Opinions
from chatkit.store.pruning import Pruning
from chatkit.store.search import Search
from chatkit.store.usage import UsageReader
from chatkit.store.votes import Votes
from chatkit.store.workers import Workers


@dataclass(frozen=True, slots=True)
class Store:
    """What people and models wrote; it belongs to one event loop.

    Args:
        database: where the rows are.
        keys: what opens them.
        conversations: begins, finds, lists, renames.
        nodes: the messages.
        copies: whole conversations, made from others.
        answers: how answers come about.
        opinions: feedback and preferences.
        votes: which of two answers is better.
        search: finds messages by their words.
        usage: counts answers.
        audit: who did what to whose data.
        erasure: deletes for good.
        pruning: deletes a branch of a conversation.
        workers: which processes are alive.
    """

    database: Database
    keys: Keys
    conversations: Conversations
    nodes: Nodes
    copies: Copies
    answers: Answers
    opinions: Opinions
    votes: Votes
    search: Search
    usage: UsageReader
    audit: Audit
    erasure: Erasure
    pruning: Pruning
    workers: Workers

    async def close(self) -> None:
        """Close the database and the key store."""
        await self.database.close()
        await self.keys.close()


async def open_store(settings: Settings) -> Store:
    """Open the store that the settings name, and bring it to this program's form.

    Raises:
        StoreUnavailable: the database or the key store does not answer.
        DatabaseVersion: a newer program made it.
        KeyUnavailable: the master key is missing or another one.
    """
    return await _open(Database(settings.database), open_keys(settings), ready)


def open_keys(settings: Settings) -> Keys:
    """Name the key store of the settings; open and close it."""
    master = MasterKey(settings.master_key, settings.data / "master.key")
    return Keys(Database(settings.keys), master, settings.encrypted)


async def open_temporary_store() -> Store:
    """Open a store in memory, for conversations that leave no trace."""
    keys = Keys(Database("sqlite://"), MasterKey(new_key().hex(), Path()), encrypted=False)
    return await _open(Database("sqlite://"), keys, make_in_memory)


async def _open(
    database: Database, keys: Keys, prepare: Callable[[Database], Awaitable[None]]
) -> Store:
    try:
        await prepare(database)
        await keys.open()
        store = _store(database, keys)
        await store.erasure.replay()
    except BaseException:
        await database.close()
        await keys.close()
        raise
    return store


def _store(database: Database, keys: Keys) -> Store:
    audit = Audit(database, keys)
    conversations, nodes = Conversations(database, keys), Nodes(database, keys)
    return Store(
        database=database,
        keys=keys,
        conversations=conversations,
        nodes=nodes,
        copies=Copies(database, conversations, nodes, audit),
        answers=Answers(database, keys),
        opinions=Opinions(database, keys),
        votes=Votes(database, keys),
        search=Search(database, keys),
        usage=UsageReader(database),
        audit=audit,
        erasure=Erasure(database, keys, audit),
        pruning=Pruning(database, keys, audit),
        workers=Workers(database),
    )
