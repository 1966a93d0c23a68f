"""Fills a store with many conversations, as fast as it takes them."""

import random
import secrets

from chatkit.messages import assistant, user
from chatkit.shelf import Shelf
from chatkit.store.conversations import NewConversation
from chatkit.store.new_node import NewNode
from chatkit.store.records import ConversationSettings
from chatkit.store.transaction import Transaction

USERS = 200
AT_ONCE = 50
TEXT = (
    "the sea is deep and people sail across it with ships of wood or steel while birds follow "
    "them home at night because nobody knows a shorter way than the one that they remember"
)
WORDS = TEXT.split()


async def fill(shelf: Shelf, conversations: int, length: int) -> list[tuple[str, str]]:
    """Store conversations of one length, spread over the users.

    Returns: who they belong to, and their names.
    """
    made: list[tuple[str, str]] = []
    for start in range(0, conversations, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, conversations))
        made += await _store(shelf, [f"user{number % USERS}" for number in numbers], length)
    return made


async def _store(shelf: Shelf, people: list[str], length: int) -> list[tuple[str, str]]:
    """Store one conversation for each of some people, in one step."""
    store = shelf.store
    new = NewConversation(ConversationSettings(), "Ships")
    prepared = [(who, *await store.conversations.prepare(who, new)) for who in people]

    async def work(connection: Transaction) -> None:
        for who, row, seal in prepared:
            nodes = talk(length)
            await store.conversations.insert(connection, who, row)
            await store.nodes.insert(connection, str(row["id"]), seal, nodes)
            await store.nodes.put_head(connection, who, str(row["id"]), nodes[-1].id)

    await store.database.write(work, "soon")
    return [(who, str(row["id"])) for who, row, _ in prepared]


def talk(length: int) -> list[NewNode]:
    """Make a conversation of alternating messages of about 30 words."""
    nodes: list[NewNode] = []
    for number in range(length):
        text = " ".join(random.choices(WORDS, k=random.randint(10, 50)))
        message = assistant(text) if number % 2 else user(text)
        parent = nodes[-1].id if nodes else None
        nodes.append(NewNode(message, parent, id=secrets.token_hex(8)))
    return nodes
