"""Rotates keys: a new master key, and new keys of all users under it."""

from pathlib import Path

from chatkit.errors import InputError
from chatkit.sealing import new_key
from chatkit.store.master_key import parse_key
from chatkit.store.opening import Store


async def rotate_keys(store: Store, new_master: bytes | None, actor: str) -> int:
    """Put a new master key in the place of the old one, and give every user a new key.

    Texts stay as they are. Other processes go on working: they take up the new master key from
    its file when they next need it.

    Args:
        store: whose keys.
        new_master: the new master key; None makes one.
        actor: who asked for it, for the audit log.

    Returns: how many users' keys were changed.

    Raises:
        InputError: the old master key comes from the environment and no new one is given.
        KeyUnavailable: another process rotates the keys at the same time.
    """
    if new_master is None and store.keys.key_from_environment:
        raise InputError(
            "The master key comes from CHATKIT_MASTER_KEY, which this command cannot set; write a "
            "new one with `openssl rand -hex 32 > FILE`, and name it with --new-key-from-file."
        )
    changed = await store.keys.rotate(new_master or new_key())
    await store.audit.note(actor, "rotate keys", "keys")
    return changed


def key_from_file(file: Path) -> bytes:
    """Read a master key from a file.

    Raises:
        InputError: it cannot be read or holds no key.
    """
    try:
        return parse_key(file.read_text("ascii"))
    except (OSError, ValueError) as error:
        raise InputError(f"The key file {file} cannot be read ({error}); name another.") from None
