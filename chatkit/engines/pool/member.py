"""One server of a pool, with what it is doing."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from chatkit import telemetry
from chatkit.engine import Engine
from chatkit.engines.pool.breaker import Breaker
from chatkit.engines.pool.configuration import Server


@dataclass(eq=False, slots=True)
class Member:
    """A server and its counts; the pool's dispatch holds the lock over them.

    Args:
        server: what the configuration says of it.
        engine: what asks it.
        breaker: whether it is left in peace.
        well: whether its health checks say that it can work.
        failed_checks: how many of them failed in a row.
        draining: whether it gets no more requests.
        tokens: how many tokens its running requests may hold, prompts and answers.
        leases: its running requests.
        chosen: the number of the request that it got last, so that equals take turns.
        emptied: who waits for its last request to end.
    """

    server: Server
    engine: Engine
    breaker: Breaker
    well: bool = True
    failed_checks: int = 0
    draining: bool = False
    tokens: int = 0
    leases: "set[Lease]" = field(default_factory=set)
    chosen: int = 0
    emptied: "list[Future[None]]" = field(default_factory=list)

    @property
    def name(self) -> str:
        """What logs and metrics call it."""
        return self.server.name

    @property
    def alive(self) -> bool:
        """Whether it can answer, now or when a place is free."""
        return self.well and not self.draining and self.breaker.state != "open"

    @property
    def free(self) -> bool:
        """Whether it may be given a request now."""
        return self.alive and self.breaker.admits and len(self.leases) < self.server.limit

    @property
    def load(self) -> float:
        """Its outstanding tokens for each unit of weight."""
        return self.tokens / self.server.weight

    def serves(self, adapter: str | None) -> bool:
        """Whether it has an adapter; every server has the base."""
        return adapter is None or adapter in self.engine.adapters

    @property
    def standing(self) -> str:
        """How it stands, in a word for a sentence or a page."""
        if self.draining:
            return "draining"
        if not self.well:
            return "down"
        return "working" if self.breaker.state == "closed" else f"breaker {self.breaker.state}"

    def tell(self, pool: str) -> None:
        """Tell metrics how it stands."""
        figures = telemetry.ServerFigures(
            len(self.leases), self.tokens, self.well, self.breaker.state
        )
        telemetry.server_stands(pool, self.name, figures)


@dataclass(eq=False, slots=True)
class Lease:
    """A request's place on a server.

    Args:
        member: the server.
        tokens: how many tokens the request may hold there.
        probe: whether it tries a server that failed before.
        begun: whether its first token has come.
        interrupt: ends the wait for the first token when the server is found to be down; None
            while nothing waits. Called from any thread.
    """

    member: Member
    tokens: int
    probe: bool
    begun: bool = False
    interrupt: Callable[[], None] | None = None
