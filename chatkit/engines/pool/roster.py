"""The servers of a pool: who is in it, who comes, who leaves."""

import asyncio
import threading
from collections.abc import Sequence

from chatkit import telemetry
from chatkit.engine import Engine
from chatkit.engines.pool.breaker import Breaker
from chatkit.engines.pool.configuration import Configuration, Server
from chatkit.engines.pool.dispatch import Dispatch
from chatkit.engines.pool.member import Member
from chatkit.engines.pool.opening import Opened, Opener, check_same, close_all, open_servers
from chatkit.errors import InputError


class Roster:
    """Changes who serves while the pool runs; its methods block, and are called on a thread.

    Args:
        configuration: what the pool is.
        opened: the servers that are open, at least one, and those that cannot be reached yet.
        fallback: the engine that answers when every server has failed.
        opener: opens further ones.

    Raises:
        InputError: two servers have different templates.

    Attributes:
        context: the smallest window of the first servers, in tokens; later ones have at least it.
    """

    def __init__(
        self,
        configuration: Configuration,
        opened: Opened,
        fallback: Engine | None,
        opener: Opener,
    ) -> None:
        check_same((server.name, engine) for server, engine in opened.engines)
        self._opener = opener
        self._missing = list(opened.missing)
        self._lock = threading.Lock()
        # What all must be like, also when it has left itself.
        self._pattern = (opened.engines[0][0].name, opened.engines[0][1])
        self.context = min(engine.context for _, engine in opened.engines)
        self.fallback = fallback
        self.dispatch = Dispatch(configuration, ())
        for server, engine in opened.engines:
            self._join(server, engine)

    @property
    def configuration(self) -> Configuration:
        """What the pool is now."""
        return self.dispatch.configuration

    def change(self, configuration: Configuration) -> None:
        """Become what a configuration says; servers that leave finish their answers first.

        Raises:
            ChatkitError: a new server cannot be opened; then nothing has changed.
        """
        with self._lock:
            staying = self._staying(configuration)
            new = [server for server in configuration.servers if server.name not in staying]
            opened = open_servers(new, self._opener)
            fallback = self._changed_fallback(configuration)
            try:
                self._check(opened)
            except BaseException:
                close_all(engine for _, engine in opened.engines)
                raise
            self._missing = list(opened.missing)
            leaving = [one for one in self.dispatch.members if one.name not in staying]
            for server, engine in opened.engines:
                self._join(server, engine)
            for server in configuration.servers:
                if server.name in staying:
                    staying[server.name].server = server
            self.dispatch.configure(configuration)
            for member in leaving:
                self._leave(member)
            if fallback is not self.fallback:
                old, self.fallback = self.fallback, fallback
                close_all([old] if old else [])

    def reach_missing(self) -> None:
        """Try again to open the servers that could not be reached."""
        with self._lock:
            if not self._missing:
                return
            opened = open_servers(self._missing, self._opener)
            self._missing = list(opened.missing)
            self._check(opened)
            for server, engine in opened.engines:
                self._join(server, engine)
                telemetry.event("server is there", pool=self.configuration.name, server=server.name)

    async def close(self) -> None:
        """Close every engine; on the loop that watched them, where they have connections too."""
        members: Sequence[Member] = list(self.dispatch.members)
        for member in members:
            self.dispatch.part(member)
            await member.engine.close()
        if self.fallback is not None:
            await self.fallback.close()

    def _staying(self, configuration: Configuration) -> dict[str, Member]:
        """Find the members whose engine serves on."""
        members = {member.name: member for member in self.dispatch.members if not member.draining}
        return {
            server.name: members[server.name]
            for server in configuration.servers
            if server.name in members and members[server.name].server.same_engine(server)
        }

    def _changed_fallback(self, configuration: Configuration) -> Engine | None:
        if configuration.fallback == self.configuration.fallback:
            return self.fallback
        return self._opener(configuration.fallback) if configuration.fallback else None

    def _check(self, opened: Opened) -> None:
        """Refuse newcomers that are not like the others."""
        check_same([self._pattern, *((one.name, engine) for one, engine in opened.engines)])
        for server, engine in opened.engines:
            if engine.context < self.context:
                raise InputError(
                    f"The server {server.name} has a window of {engine.context} tokens and the "
                    f"pool one of {self.context}; start it with a larger one, or the pool anew."
                )

    def _join(self, server: Server, engine: Engine) -> None:
        breaker = Breaker(self.configuration.breaker)
        self.dispatch.join(Member(server, engine, breaker))

    def _leave(self, member: Member) -> None:
        """Let a member finish, on a thread of its own since that may take minutes."""

        def finish() -> None:
            self.dispatch.drain(member).result()
            self.dispatch.part(member)
            asyncio.run(member.engine.close())

        emptied = threading.Thread(target=finish, name=f"draining-{member.name}", daemon=True)
        # From now on, not from when the thread begins, it gets no more requests.
        member.draining = True
        emptied.start()
