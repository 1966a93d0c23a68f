"""A server program that tests start on 127.0.0.1, kill, start again, and always end."""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

import psutil

HOST = "127.0.0.1"
PATIENCE_SECONDS = 60
# Below the ports that the system gives to clients: one of those could take a stopped server's
# port, or even connect to itself there.
PORTS = range(20_000, 32_000)
# A new database of PostgreSQL is 300 files: in memory it is made several times as fast.
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 << 30


class Service(ABC):
    """A server program that can be stopped, killed and started again on the same port.

    Use it as a context manager, or call `start` and at the end `remove`. `directory` holds its
    raw data files, `log` what it said.

    Args:
        on_disk: whether `directory` is on a disk; otherwise it is in memory where that has room.
    """

    def __init__(self, *, on_disk: bool) -> None:
        prefix = f"chatkit-{type(self).__name__.lower()}-"
        folder = None if on_disk else _folder_in_memory()
        self._home = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        self.directory = self._home / "data"
        self.log = self._home / "log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._account = None if os.geteuid() else self._unprivileged()
        self.directory.mkdir(mode=0o700)
        if self._account:
            for path in (self._home, self.directory):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def start(self) -> None:
        """Start it, or start it again on the same port with what it kept; wait until it answers.

        Raises:
            RuntimeError: it ended or does not answer; the message holds its log.
        """
        with self.log.open("ab") as log:
            self._process = self._run(self._command(), log=log)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"{type(self).__name__} did not start:\n{self._log_tail()}")

    def stop(self) -> None:
        """End it in good order; nothing when it does not run."""
        self._end(self._ending)

    def kill(self) -> None:
        """End it and its children at once, as `kill -9` does; nothing when it does not run."""
        if self._process is None:
            return
        if self._process.poll() is None:
            parent = psutil.Process(self._process.pid)
            # Halted first, it can neither start another child nor take a child's death for a crash.
            parent.suspend()
            family = [*parent.children(recursive=True), parent]
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            while any(_lives(member) for member in family):
                time.sleep(0.01)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop it in good order and start it again."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """End it and remove its files."""
        self._end(self._giving_up)
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        """The process to send signals to; None when it does not run."""
        return self._process.pid if self._process else None

    @property
    def _ending(self) -> signal.Signals:
        return signal.SIGTERM

    @property
    def _giving_up(self) -> signal.Signals:
        return self._ending

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(PATIENCE_SECONDS)
            self._process = None
        except subprocess.TimeoutExpired:
            self.kill()

    @abstractmethod
    def _command(self) -> list[str]:
        """Give the command that runs the server in the foreground."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether the server takes requests."""

    def _unprivileged(self) -> pwd.struct_passwd | None:
        """Give the account to run under where the tests run as root; None stays root."""
        return None

    def _run(self, command: list[str], *, log: IO[bytes]) -> subprocess.Popen[bytes]:
        account = self._account
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self._home,
            # Ctrl-C at the terminal is for the tests, which then end their servers themselves.
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )

    def _log_tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-4000:]


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody listens on and that no client is given."""
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"No port of {HOST} between {PORTS.start} and {PORTS.stop} is free.")


def _folder_in_memory() -> Path | None:
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES:
        return MEMORY
    return None


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
