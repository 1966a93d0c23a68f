"""One request's way through the servers of a pool."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from chatkit import telemetry
from chatkit.engines.pool.dispatch import Dispatch, Request
from chatkit.engines.pool.limit import Limit
from chatkit.engines.pool.member import Lease
from chatkit.errors import EngineError, Overloaded


class Attempts:
    """Tries one server after another until one has begun to answer, each at most once.

    Args:
        dispatch: gives out places.
        request: what is to be served.
    """

    def __init__(self, dispatch: Dispatch, request: Request) -> None:
        self._dispatch = dispatch
        self._configuration = dispatch.configuration
        self._request = request
        self._asked = time.monotonic()
        self._failures: list[EngineError] = []

    @property
    def waited(self) -> float:
        """How many seconds have gone since the request was asked."""
        return time.monotonic() - self._asked

    async def next(self) -> Lease | None:
        """Wait for the next server; None when none is left.

        Raises:
            Overloaded: too many wait, or every server said so.
            EngineError: the time is over.
        """
        self._check_time()
        patience = self._configuration.deadline_seconds
        if not self._request.tried:
            patience = min(patience, self._configuration.queue.seconds)
        lease = await self._dispatch.enter(self._request, self._asked + patience)
        busy = [error.retry_after for error in self._failures if isinstance(error, Overloaded)]
        if lease is None and busy and len(busy) == len(self._failures):
            raise Overloaded(
                f"Every server of {self._configuration.name} has too much to do; try again in "
                f"{min(busy):.0f} seconds.",
                min(busy),
            )
        return lease

    def limit(self, lease: Lease) -> Limit:
        """Give the limit of what a server is asked; until the first token its fall ends it too."""
        limit = Limit(self._asked + self._configuration.deadline_seconds)
        lease.interrupt = limit.interrupt
        return limit

    @contextmanager
    def trying(self, lease: Lease) -> Iterator[None]:
        """Ask a server inside; its failure is noted, and leaves only after the first token.

        Raises:
            EngineError: the server failed after its first token, or the time was over then.
        """
        outcome = "refused"
        try:
            yield
            outcome = "answered"
        except (EngineError, TimeoutError) as error:
            outcome = "failed" if lease.begun else "retried"
            self._note(lease, error)
        except (GeneratorExit, BaseException) as error:
            outcome = "refused" if isinstance(error, Exception) else "stopped"
            raise
        finally:
            self._dispatch.over(lease)
            telemetry.server_asked(self._configuration.name, lease.member.name, outcome)

    def verdict(self) -> EngineError:
        """Say in a sentence why no server has answered."""
        name, members = self._configuration.name, self._dispatch.members
        if self._failures:
            return EngineError(
                f"No server of {name} could answer; of {len(self._failures)} that were tried the "
                f"last said: {self._failures[-1]}"
            )
        standing = ", ".join(f"{member.name} {member.standing}" for member in members)
        return EngineError(
            f"No server of {name} can answer now ({standing or 'it has none'}); start one, or "
            "name a fallback in its configuration."
        )

    def _note(self, lease: Lease, error: EngineError | TimeoutError) -> None:
        if isinstance(error, TimeoutError):
            if lease.begun:
                self._check_time()
            error = EngineError(f"{lease.member.name} did not answer in time; see whether it runs.")
        self._request.tried.add(lease.member)
        if not isinstance(error, Overloaded):
            self._dispatch.failed(lease)
        if lease.begun:
            raise error
        self._failures.append(error)

    def _check_time(self) -> None:
        seconds = self._configuration.deadline_seconds
        if self.waited >= seconds:
            raise EngineError(
                f"{self._configuration.name} did not answer within its deadline of {seconds:g} "
                "seconds; ask for a shorter answer, or raise deadline_seconds."
            )
