"""The queue in front of an engine: first come, first served, never more than it can hold."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

Release = Callable[[], None]


@dataclass(eq=False, slots=True)
class _Ticket:
    tokens: int
    admitted: bool = False
    future: "Future[None]" = field(default_factory=Future)


class Admission:
    """Lets requests in while there is a free slot and room for their tokens.

    Works from any thread and any event loop.

    Args:
        slots: how many requests may run at once.
        tokens: how many tokens they may hold together, prompts and answers.
    """

    def __init__(self, slots: int, tokens: int) -> None:
        self._lock = threading.Lock()
        self.slots = slots
        self._free_slots = slots
        self._free_tokens = tokens
        self._waiting: deque[_Ticket] = deque()

    @property
    def waiting(self) -> int:
        """How many requests stand in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many requests have been let in and are not over."""
        return self.slots - self._free_slots

    async def enter(self, tokens: int) -> Release:
        """Wait for a place; leaving the queue early (cancellation) gives it up.

        Args:
            tokens: what the request may hold at most; not more than the whole.

        Returns:
            A function to call once, from any thread, when the request is over.
        """
        ticket = _Ticket(tokens)
        with self._lock:
            self._waiting.append(ticket)
            self._let_in()
        try:
            await asyncio.wrap_future(ticket.future)
        except asyncio.CancelledError:
            self._leave(ticket)
            raise
        return lambda: self._release(tokens)

    def _leave(self, ticket: _Ticket) -> None:
        with self._lock:
            if not ticket.admitted:
                self._waiting.remove(ticket)
                self._let_in()
                return
        self._release(ticket.tokens)

    def _release(self, tokens: int) -> None:
        with self._lock:
            self._free_slots += 1
            self._free_tokens += tokens
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._free_slots and self._waiting[0].tokens <= self._free_tokens:
            ticket = self._waiting.popleft()
            ticket.admitted = True
            self._free_slots -= 1
            self._free_tokens -= ticket.tokens
            if ticket.future.set_running_or_notify_cancel():
                ticket.future.set_result(None)
