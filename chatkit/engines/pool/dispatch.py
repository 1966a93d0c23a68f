"""Who is served next, and by which server."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count

from chatkit import telemetry
from chatkit.engines.pool.affinity import Affinity
from chatkit.engines.pool.configuration import Configuration
from chatkit.engines.pool.fair_queue import FairQueue
from chatkit.engines.pool.member import Lease, Member
from chatkit.errors import EngineError, Overloaded

# The rate at which requests leave the queue is measured over so many of them.
MEASURED = 64
# What is told to come again comes within these bounds, in seconds.
SOONEST, LATEST = 1.0, 120.0


@dataclass(eq=False, slots=True)
class Request:
    """What is to be served.

    Args:
        user: whose it is.
        tokens: how many tokens it may hold, prompt and answer.
        adapter: the adapter it needs.
        path: the rolling hashes of its prompt.
        tried: the servers that failed it.
    """

    user: str
    tokens: int
    adapter: str | None
    path: tuple[bytes, ...]
    tried: set[Member] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class _Ticket:
    request: Request
    lease: Lease | None = None
    future: "Future[None]" = field(default_factory=Future)

    def answer(self, lease: Lease | None) -> None:
        self.lease = lease
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(None)


class Dispatch:
    """Gives requests to servers, and lets them wait; works from any thread and event loop.

    Args:
        configuration: limits and margins.
        members: the servers.
    """

    def __init__(self, configuration: Configuration, members: Collection[Member]) -> None:
        self.lock = threading.RLock()
        self.configuration = configuration
        self.members = list(members)
        self._queue: FairQueue[_Ticket] = FairQueue()
        self._affinity: Affinity[Member] = Affinity(configuration.affinity.remembered)
        self._served: deque[float] = deque(maxlen=MEASURED)
        self._numbers = count(1)

    @property
    def waiting(self) -> int:
        """How many requests stand in the queue."""
        return len(self._queue)

    def configure(self, configuration: Configuration) -> None:
        """Take other limits and margins from now on."""
        with self.lock:
            self.configuration = configuration
            self._affinity.most = configuration.affinity.remembered
            for member in self.members:
                member.breaker.options = configuration.breaker
            self.serve()

    async def enter(self, request: Request, until: float) -> Lease | None:
        """Wait for a server.

        A request that a server has failed goes before all others of its user, however many wait.

        Args:
            request: what is to be served.
            until: when to give up, by the monotonic clock.

        Returns:
            The place; None when no server that could serve it is left.

        Raises:
            Overloaded: too many wait.
            EngineError: no server was free in time.
        """
        ticket = _Ticket(request)
        self._join(ticket)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await asyncio.wrap_future(ticket.future)
        except BaseException as error:
            self._leave(ticket)
            if isinstance(error, TimeoutError):
                raise EngineError(
                    f"{self.configuration.name} had no free server in time; try again later, or "
                    "add servers."
                ) from None
            raise
        return ticket.lease

    def lend(self, member: Member, tokens: int) -> Lease:
        """Give a request to a server, whatever it does already."""
        with self.lock:
            lease = Lease(member, tokens, member.breaker.take())
            member.leases.add(lease)
            member.tokens += tokens
            member.chosen = next(self._numbers)
            member.tell(self.configuration.name)
            return lease

    def begun(self, lease: Lease) -> None:
        """Note that a server has begun to answer."""
        with self.lock:
            lease.begun = True
            lease.interrupt = None
            lease.member.breaker.succeed(lease.probe)
            lease.probe = False
            self.serve()

    def failed(self, lease: Lease) -> None:
        """Note that a server failed a request."""
        with self.lock:
            lease.member.breaker.fail(lease.probe)
            lease.probe = False
            self._dismiss()

    def over(self, lease: Lease) -> None:
        """Take a request's place back, however it ended."""
        with self.lock:
            member = lease.member
            member.breaker.give_up(lease.probe)
            member.leases.discard(lease)
            member.tokens -= lease.tokens
            member.tell(self.configuration.name)
            self._tell_emptied(member)
            self.serve()

    def checked(self, member: Member, well: bool) -> None:
        """Take the outcome of a health check; what has not begun on a server that is down moves."""
        with self.lock:
            member.failed_checks = 0 if well else member.failed_checks + 1
            was, failures = member.well, self.configuration.health.failures
            member.well = well or (was and member.failed_checks < failures)
            if was and not member.well:
                for lease in member.leases:
                    if lease.interrupt is not None:
                        lease.interrupt()
            if was != member.well:
                state = "server is back" if member.well else "server is down"
                telemetry.event(state, pool=self.configuration.name, server=member.name)
                member.tell(self.configuration.name)
            self._dismiss()
            self.serve()

    def join(self, member: Member) -> None:
        """Take a server in."""
        with self.lock:
            self.members.append(member)
            member.tell(self.configuration.name)
            self.serve()

    def drain(self, member: Member) -> "Future[None]":
        """Give a server no more requests; the future is done when its last one has ended."""
        emptied: Future[None] = Future()
        with self.lock:
            member.draining = True
            member.emptied.append(emptied)
            self._tell_emptied(member)
            self._dismiss()
        return emptied

    def part(self, member: Member) -> None:
        """Take a server out."""
        with self.lock:
            self.members.remove(member)
            self._affinity.forget(member)
            telemetry.server_left(self.configuration.name, member.name)

    def serve(self) -> None:
        """Give whoever can be served a place, user after user."""
        with self.lock:
            while any(member.free for member in self.members) and self._serve_one():
                pass
            telemetry.queue_length(self.configuration.name, len(self._queue))

    def _serve_one(self) -> bool:
        for user, ticket in self._queue.heads():
            if member := self._choose(ticket.request):
                self._queue.take(user)
                self._served.append(time.monotonic())
                self._affinity.note(ticket.request.path, member)
                ticket.answer(self.lend(member, ticket.request.tokens))
                return True
        return False

    def _choose(self, request: Request) -> Member | None:
        """Choose the least loaded server, or one that knows the prompt and is not too busy."""
        able = [member for member in self.members if member.free and self._may(member, request)]
        if not able:
            return None
        idlest = min(able, key=lambda member: (member.load, member.chosen))
        favoured = self._affinity.find(request.path)
        margin = self.configuration.affinity.margin_tokens
        if favoured in able and favoured.load <= idlest.load + margin:
            return favoured
        return idlest

    def _may(self, member: Member, request: Request) -> bool:
        return member not in request.tried and member.serves(request.adapter)

    def _hopeless(self, request: Request) -> bool:
        return not any(member.alive and self._may(member, request) for member in self.members)

    def _join(self, ticket: _Ticket) -> None:
        request = ticket.request
        with self.lock:
            if self._hopeless(request):
                ticket.answer(None)
                return
            self._queue.push(request.user, ticket, first=bool(request.tried))
            self.serve()
            # Only now, since whoever is served at once does not wait.
            full = not request.tried and self._too_many(request.user)
            if full and self._queue.remove(request.user, ticket):
                raise self._overloaded()

    def _too_many(self, user: str) -> bool:
        options = self.configuration.queue
        return len(self._queue) > options.limit or self._queue.length(user) > options.per_user

    def _overloaded(self) -> Overloaded:
        wait = min(LATEST, max(SOONEST, self._wait()))
        return Overloaded(
            f"Too many wait for {self.configuration.name} already; try again in "
            f"{wait:.0f} seconds.",
            wait,
        )

    def _wait(self) -> float:
        """Estimate, from the rate of late, how many seconds the queue as it is will take."""
        if len(self._served) < 2:
            return SOONEST
        seconds = time.monotonic() - self._served[0]
        return len(self._queue) * seconds / len(self._served)

    def _dismiss(self) -> None:
        """Tell those whom no server can serve any more."""
        for ticket in self._queue:
            if self._hopeless(ticket.request):
                self._queue.remove(ticket.request.user, ticket)
                ticket.answer(None)

    def _leave(self, ticket: _Ticket) -> None:
        with self.lock:
            if not self._queue.remove(ticket.request.user, ticket) and ticket.lease:
                self.over(ticket.lease)

    def _tell_emptied(self, member: Member) -> None:
        if member.draining and not member.leases:
            while member.emptied:
                member.emptied.pop().set_result(None)
