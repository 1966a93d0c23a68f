"""Who is in front of a page: the one place that decides whose conversations it shows."""

import hashlib
import re

from chatkit.errors import InputError

NOBODY = "The page did not say whose it is; reload it."
TOKEN = re.compile("[0-9a-f]{64}")


def visitor_of(token: str) -> str:
    """Name the user of a browser that has no sign-in.

    The name tells nothing of the token, so who reads the database or a log gets in nowhere.

    Args:
        token: what the browser made for itself and keeps, 64 hexadecimal digits; it is a secret.

    Raises:
        InputError: it is no such token.
    """
    if not TOKEN.fullmatch(token):
        raise InputError(NOBODY)
    digest = hashlib.sha256(b"chatkit visitor\x00" + bytes.fromhex(token)).hexdigest()
    # As long as a user's name may be in the store.
    return f"visitor:{digest[:56]}"
