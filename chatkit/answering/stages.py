"""How long each stage of a message's path takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from chatkit import telemetry


class Stages:
    """Times the stages of one answer."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Time a stage, also when it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.note(name, time.monotonic() - began)

    def note(self, name: str, seconds: float) -> None:
        """Add the time of a stage; one that comes twice is added up."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 6)
        telemetry.stage_finished(name, seconds)
