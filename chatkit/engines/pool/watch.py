"""Watches a pool's servers and its configuration, on a thread of its own."""

import asyncio
import logging
import threading
from pathlib import Path

from chatkit.engines.pool.configuration import read_configuration
from chatkit.engines.pool.member import Member
from chatkit.engines.pool.roster import Roster
from chatkit.errors import ChatkitError

# How often it looks whether the file was changed, in seconds.
GLANCE_SECONDS = 0.5


class Watch:
    """Checks the health of each server, and takes up a changed configuration.

    Args:
        roster: who serves.
        path: the configuration's file.
    """

    def __init__(self, roster: Roster, path: Path) -> None:
        self._roster = roster
        self._path = path
        self._seen = _stamp(path)
        self._ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._checking: dict[Member, asyncio.Task[None]] = {}
        name = f"pool-{roster.configuration.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Watch no more and close every engine; called on another thread."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._watch())
        finally:
            self._loop.close()

    async def _watch(self) -> None:
        while not self._ended.is_set():
            self._check_members()
            await asyncio.to_thread(self._glance)
            try:
                async with asyncio.timeout(GLANCE_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                continue
        for task in self._checking.values():
            task.cancel()
        await asyncio.gather(*self._checking.values(), return_exceptions=True)
        await self._roster.close()

    def _check_members(self) -> None:
        """See to it that each member is checked, also those that came meanwhile."""
        members = set(self._roster.dispatch.members)
        for gone in set(self._checking) - members:
            self._checking.pop(gone).cancel()
        for member in members - set(self._checking):
            self._checking[member] = self._loop.create_task(self._check(member))

    async def _check(self, member: Member) -> None:
        while True:
            options = self._roster.configuration.health
            try:
                async with asyncio.timeout(options.timeout_seconds):
                    await member.engine.health()
                well = True
            except (ChatkitError, TimeoutError):
                well = False
            self._roster.dispatch.checked(member, well)
            await asyncio.sleep(options.every_seconds)

    def _glance(self) -> None:
        """Take up what was changed; what is wrong with it is logged, and nothing changes."""
        stamp = _stamp(self._path)
        try:
            if stamp != self._seen:
                self._seen = stamp
                self._roster.change(read_configuration(self._path))
            self._roster.reach_missing()
        except ChatkitError as error:
            logging.getLogger(__name__).warning("the pool stays as it is: %s", error)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
