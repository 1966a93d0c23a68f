"""How much an import may hold, and how much of that is still free."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from chatkit.exchange.place import Place

MEBIBYTE = 1 << 20
Counted = Literal["bytes", "conversations", "messages", "values"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one import; what goes over one of them is refused whole.

    Args:
        total_bytes: bytes of JSON in all files together, after unpacking.
        conversation_characters: characters of JSON that one conversation may take.
        conversations: conversations in all files together.
        messages: messages in all conversations together.
        message_characters: characters of one text.
        values: JSON lists, objects and facts in all; each takes about 70 bytes of memory.
        depth: lists and objects inside each other.
        entries: files in a zip, whether they are read or not.
    """

    total_bytes: int = 512 * MEBIBYTE
    conversation_characters: int = 64 * MEBIBYTE
    conversations: int = 100_000
    messages: int = 1_000_000
    message_characters: int = 1_000_000
    values: int = 10_000_000
    depth: int = 64
    entries: int = 100_000


DEFAULT_LIMITS = Limits()


class Budget:
    """What is left of the limits while an import is read.

    Args:
        limits: the bounds.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.moment = datetime.now(UTC)
        self._allowed: dict[Counted, int] = {
            "bytes": limits.total_bytes,
            "conversations": limits.conversations,
            "messages": limits.messages,
            "values": limits.values,
        }
        self._left = dict(self._allowed)

    def spend(self, kind: Counted, amount: int, place: Place) -> None:
        """Count what was found.

        Raises:
            ImportRefused: it is more than is allowed.
        """
        self._left[kind] -= amount
        if self._left[kind] < 0:
            raise place.refused(
                f"up to here the import has more than {self._allowed[kind]:,} {kind}",
                "import it in parts, or raise the limit if you trust it",
            )
