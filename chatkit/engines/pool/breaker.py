"""A circuit breaker: leaves a server that fails in peace, and then tries it with one request."""

import random
import time
from collections.abc import Callable
from typing import Literal

from chatkit.engines.pool.configuration import BreakerOptions

State = Literal["closed", "half-open", "open"]


class Breaker:
    """Counts what becomes of a server's requests; whoever owns it holds a lock.

    Args:
        options: when it opens, and for how long.
        now: a clock in seconds that never goes back.
    """

    def __init__(self, options: BreakerOptions, now: Callable[[], float] = time.monotonic) -> None:
        self.options = options
        self._now = now
        self._failures = 0
        self._pause = 0.0
        self._until: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        """Closed lets all in, half-open one, open none."""
        if self._until is None:
            return "closed"
        return "open" if self._now() < self._until else "half-open"

    @property
    def admits(self) -> bool:
        """Whether a request may be sent now."""
        return self.state == "closed" or (self.state == "half-open" and not self._probing)

    def take(self) -> bool:
        """Note that a request is sent; tells whether it tries a server that failed before."""
        self._probing = self._probing or self.state == "half-open"
        return self._until is not None

    def succeed(self, probe: bool) -> None:
        """Note that a request was answered.

        Args:
            probe: what `take` said; what was sent before the breaker opened says nothing new.
        """
        if probe or self._until is None:
            self._failures, self._pause, self._until, self._probing = 0, 0.0, None, False

    def fail(self, probe: bool) -> None:
        """Note that a request failed; `probe` as in `succeed`."""
        if self._until is None:
            self._failures += 1
        if probe or (self._until is None and self._failures >= self.options.failures):
            self._open()

    def give_up(self, probe: bool) -> None:
        """Note that a request ended without saying anything of the server; `probe` as before."""
        if probe:
            self._probing = False

    def _open(self) -> None:
        first, longest = self.options.pause_seconds, self.options.longest_seconds
        self._pause = min(longest, self._pause * 2 or first)
        # Up to a quarter shorter, so that servers that fell together are not tried together.
        self._until = self._now() + self._pause * random.uniform(0.75, 1.0)
        self._probing = False
