"""One file over HTTP: resumed where it stopped, verified, and whole or not there."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from chatkit.errors import ChecksumMismatch, HubUnreachable
from chatkit.loading.disk import move_into_place, size_of, writing
from chatkit.loading.progress import Progress, size_text

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 5
PAUSE_SECONDS = 0.5
_BLOCK = 1 << 20
_TOO_MANY_REQUESTS = 429
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that a server promises.

    Args:
        name: what a person calls it.
        url: where it is.
        version: names this very content, so that no half file is continued with another's bytes.
        bytes: its size, None when the server did not tell.
        sha256: its SHA-256, None when unknown.
        git_blob: the SHA-1 that git gives the content, None when unknown.
    """

    name: str
    url: str
    version: str
    bytes: int | None = None
    sha256: str | None = None
    git_blob: str | None = None


class _Interrupted(Exception):
    """The server broke off or was busy; asking again may help."""


def download(
    client: "httpx.Client", remote: RemoteFile, target: Path, staging: Path, progress: Progress
) -> str:
    """Bring a file here, continuing what an earlier attempt left in the staging folder.

    A target that already holds the promised content is left alone.

    Args:
        client: sends the requests; it follows redirects.
        remote: what to fetch and what was promised about it.
        target: where the verified file goes, in one step.
        staging: an existing folder on the same disk for the unfinished file.
        progress: told about each piece and each broken connection.

    Returns:
        The file's SHA-256.

    Raises:
        HubUnreachable: the server did not answer, or broke off five times without a new byte.
        ChecksumMismatch: what arrived is not what was promised; it is removed.
        DiskFull, ModelUnavailable: it cannot be written; what arrived stays for the next attempt.
        httpx.HTTPStatusError: the server refused (a status from 400 to 499).
    """
    present = _verified(remote, target)
    if present:
        progress.advance(remote.name, size_of(target), size_of(target))
        return present
    partial = partial_of(remote, target, staging)
    _Reception(client, remote, partial, progress).fill()
    checksum = _verify(remote, partial)
    move_into_place(partial, target)
    return checksum


def partial_of(remote: RemoteFile, target: Path, staging: Path) -> Path:
    """Say where the unfinished file lies; other content of the same name lies elsewhere."""
    return staging / f"{target.name}.{remote.version[:16]}.part"


def sha256_of(path: Path) -> str:
    """Compute a file's SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Reception:
    """A partial file, filled by as many requests as it takes."""

    client: "httpx.Client"
    remote: RemoteFile
    partial: Path
    progress: Progress

    def fill(self) -> None:
        failures = 0
        while True:
            before = size_of(self.partial)
            try:
                return self._ask()
            except _Interrupted as reason:
                arrived = size_of(self.partial)
                failures = 1 if arrived > before else failures + 1
                if failures == ATTEMPTS:
                    self._give_up(reason)
                self.progress.say(
                    f"{self.remote.name} broke off at {size_text(arrived)} ({reason}); resuming."
                )
                time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))

    def _ask(self) -> None:
        import httpx

        offset = self._usable_size()
        if offset and offset == self.remote.bytes:
            return
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self.client.stream("GET", self.remote.url, headers=headers) as response:
                offset = self._accept(response, offset)
                total = self.remote.bytes or _announced(response, offset)
                self._write(response, offset, total)
        except httpx.RequestError as error:
            raise _Interrupted(str(error) or type(error).__name__) from error
        if total is not None and size_of(self.partial) < total:
            raise _Interrupted("the server stopped early")

    def _usable_size(self) -> int:
        size = size_of(self.partial)
        if self.remote.bytes is not None and size > self.remote.bytes:
            self._restart()
            return 0
        return size

    def _accept(self, response: "httpx.Response", offset: int) -> int:
        """Say at which byte of the file the answer begins."""
        if response.status_code == _RANGE_NOT_SATISFIABLE and offset:
            self._restart()
            raise _Interrupted("the server has fewer bytes than arrived before")
        if response.status_code == _TOO_MANY_REQUESTS or response.is_server_error:
            raise _Interrupted(f"the server answered {response.status_code}")
        response.raise_for_status()
        if response.status_code != _PARTIAL_CONTENT:
            return 0
        start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if start != str(offset):
            raise _Interrupted("the server continued at another byte")
        return offset

    def _write(self, response: "httpx.Response", offset: int, total: int | None) -> None:
        with writing(self.partial):
            file = self.partial.open("ab" if offset else "wb", buffering=0)
        with file:
            for chunk in response.iter_raw():
                _write_whole(file, chunk, self.partial)
                offset += len(chunk)
                if total is not None and offset > total:
                    raise _Interrupted("the server sent more than it promised")
                self.progress.advance(self.remote.name, offset, total)

    def _restart(self) -> None:
        with writing(self.partial):
            self.partial.unlink()

    def _give_up(self, reason: _Interrupted) -> NoReturn:
        raise HubUnreachable(
            f"{self.remote.name} could not be fetched from {self.remote.url} ({reason}); what "
            "arrived is kept, pull again to go on."
        ) from reason


def _write_whole(file: FileIO, chunk: bytes, path: Path) -> None:
    # Unbuffered, so that an interruption loses nothing; then a write may take only a part.
    rest = memoryview(chunk)
    with writing(path):
        while rest:
            rest = rest[file.write(rest) :]


def _announced(response: "httpx.Response", offset: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return offset + int(length) if length.isdigit() else None


def _verify(remote: RemoteFile, partial: Path) -> str:
    checksum = sha256_of(partial)
    wrong = _difference(remote, partial, checksum)
    if wrong is None:
        return checksum
    with writing(partial):
        partial.unlink()
    raise ChecksumMismatch(
        f"{remote.name} arrived with {wrong}, so it was removed; pull again, and if it comes back "
        f"tell whoever keeps {remote.url}."
    )


def _difference(remote: RemoteFile, path: Path, checksum: str) -> str | None:
    if remote.bytes is not None and size_of(path) != remote.bytes:
        return f"{size_of(path)} bytes instead of {remote.bytes}"
    if remote.sha256 is not None and checksum != remote.sha256:
        return f"the SHA-256 {checksum} instead of {remote.sha256}"
    if remote.git_blob is not None and (found := _git_blob_of(path)) != remote.git_blob:
        return f"the git hash {found} instead of {remote.git_blob}"
    return None


def _verified(remote: RemoteFile, target: Path) -> str | None:
    """Give the SHA-256 of a target that holds what is promised, None otherwise."""
    if not target.exists() or (remote.sha256 is None and remote.git_blob is None):
        return None
    checksum = sha256_of(target)
    return checksum if _difference(remote, target, checksum) is None else None


def _git_blob_of(path: Path) -> str:
    digest = hashlib.sha1(f"blob {size_of(path)}\0".encode(), usedforsecurity=False)
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
