"""What was worked out from a text and may be needed again, within a bound of bytes."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """A dictionary that forgets what was not used for the longest time.

    It keeps two generations: what is found in the old one moves to the young one, and when the
    young one is full, the old one is forgotten as a whole. Reading needs no lock and no order.

    Args:
        limit: the bytes that both generations may hold together, by the sizes given to `put`.
    """

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._lock = threading.Lock()
        self._young: dict[Key, tuple[Value, int]] = {}
        self._old: dict[Key, tuple[Value, int]] = {}
        self._held = 0

    def get(self, key: Key) -> Value | None:
        """Give what was put for this key, None when it is not there any more."""
        found = self._young.get(key)
        if found is not None:
            return found[0]
        found = self._old.get(key)
        if found is None:
            return None
        self.put(key, *found)
        return found[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        """Keep a value; one too large to share the space with others is not kept.

        Args:
            key: what it was worked out from.
            value: what came out.
            size: the bytes of both.
        """
        if size > self._half:
            return
        with self._lock:
            if self._held + size > self._half:
                self._old, self._young, self._held = self._young, {}, 0
            if key not in self._young:
                self._young[key] = (value, size)
                self._held += size

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._old, self._young, self._held = {}, {}, 0
