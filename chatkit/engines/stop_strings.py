"""Ends an answer at a stop string, without ever showing a part of one."""

from collections.abc import Sequence


class StopStrings:
    """Passes text on, holding back what may turn out to be the beginning of a stop string.

    Args:
        stop: the strings that end the answer.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.reached = False

    def feed(self, text: str) -> str:
        """Take more text, give what can be shown; nothing comes after a stop string."""
        if self.reached:
            return ""
        whole = self._held + text
        hits = [whole.index(stop) for stop in self._stop if stop in whole]
        if hits:
            self.reached, self._held = True, ""
            return whole[: min(hits)]
        keep = max((self._overlap(whole, stop) for stop in self._stop), default=0)
        self._held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep]

    def rest(self) -> str:
        """Give what was held back, when the answer has ended otherwise."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, text: str, stop: str) -> int:
        lengths = range(min(len(stop) - 1, len(text)), 0, -1)
        return next((length for length in lengths if text.endswith(stop[:length])), 0)
