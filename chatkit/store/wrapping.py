"""How the keys of users are wrapped by the master key, and all of them anew."""

from dataclasses import dataclass
from typing import Self

from sqlalchemy import bindparam, select, update

from chatkit.errors import KeyUnavailable
from chatkit.sealing import KeySeal, new_key
from chatkit.store.schema import conversation_keys, key_facts, user_keys
from chatkit.store.transaction import Transaction

PSEUDONYM_KEY = "pseudonyms"
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Wrapping:
    """The master key, and the pseudonym key as it is sealed by it.

    Each rotation seals the latter anew, so a process sees from it whether it knows the present
    keys.

    Args:
        master: wraps the keys of users.
        generation: the sealed pseudonym key.
    """

    master: KeySeal
    generation: bytes

    @classmethod
    def made(cls, master: KeySeal, pseudonym_key: bytes) -> Self:
        """Make the wrapping of a rotation."""
        return cls(master, master.close_bytes(pseudonym_key, PSEUDONYM_KEY))

    def wrap_user(self, key: bytes, user: str) -> bytes:
        """Wrap a user's key."""
        return self.master.close_bytes(key, f"user:{user}")

    def user_seal(self, wrapped: bytes, user: str) -> KeySeal:
        """Open a user's key.

        Raises:
            KeyUnavailable: it was changed, or is of another key store.
        """
        return KeySeal(self.master.open_bytes(wrapped, f"user:{user}"))


async def wrapping_of_store(connection: Transaction, locked: bool = False) -> bytes:
    """Read the generation of the key store's wrapping.

    Args:
        connection: where.
        locked: keep rotations out until the transaction ends.
    """
    query = select(key_facts.c.sealed).where(key_facts.c.name == PSEUDONYM_KEY)
    # SQLite has one writer, which locks everything; there this says nothing.
    query = query.with_for_update(read=True) if locked else query
    return bytes((await connection.execute(query)).scalar_one())


async def rewrap(connection: Transaction, before: Wrapping, after: Wrapping) -> int:
    """Give every user a new key, and wrap all keys anew.

    Returns: how many users there are.

    Raises:
        KeyUnavailable: somebody else rotated the keys meanwhile.
    """
    sealed = key_facts.c.name == PSEUDONYM_KEY
    query = select(key_facts.c.sealed).where(sealed).with_for_update()
    found = bytes((await connection.execute(query)).scalar_one())
    users = (await connection.execute(select(user_keys))).all()
    if found == after.generation:
        # Done by an earlier try, after which the connection broke.
        return len(users)
    if found != before.generation:
        raise KeyUnavailable("The keys were just rotated by another process; try again.")
    for row in users:
        old, key = before.user_seal(row.wrapped, row.user_id), new_key()
        await _rewrap_conversations(connection, row.user_id, old, KeySeal(key))
        change = update(user_keys).where(user_keys.c.user_id == row.user_id)
        await connection.execute(change.values(wrapped=after.wrap_user(key, row.user_id)))
    await connection.execute(update(key_facts).where(sealed).values(sealed=after.generation))
    return len(users)


async def _rewrap_conversations(
    connection: Transaction, user: str, old: KeySeal, new: KeySeal
) -> None:
    query = select(conversation_keys).where(conversation_keys.c.user_id == user)
    rows = (await connection.execute(query)).all()
    id = conversation_keys.c.conversation_id
    change = update(conversation_keys).where(id == bindparam("id")).values(wrapped=bindparam("new"))
    for start in range(0, len(rows), _AT_ONCE):
        wrapped = [
            {
                "id": row.conversation_id,
                "new": new.close_bytes(
                    old.open_bytes(row.wrapped, row.conversation_id), row.conversation_id
                ),
            }
            for row in rows[start : start + _AT_ONCE]
        ]
        await connection.execute(change, wrapped)
