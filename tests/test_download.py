"""One file over HTTP: resumed, verified, whole or not there."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from local_hub import LocalHub, git_blob, local_hub, sha256

from chatkit.errors import ChecksumMismatch, DiskFull, HubUnreachable
from chatkit.loading import download as downloading
from chatkit.loading.download import ATTEMPTS, RemoteFile, download

DATA = random.Random(7).randbytes(300_000)
NAME = "model.safetensors"


@dataclass
class Recorder:
    """A progress that remembers."""

    said: list[str] = field(default_factory=list)
    advanced: list[tuple[str, int, int | None]] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def advance(self, file: str, done: int, total: int | None) -> None:
        self.advanced.append((file, done, total))


@dataclass
class InterruptedAt:
    """A person who presses Ctrl-C once so many bytes are here."""

    bytes: int

    def say(self, sentence: str) -> None: ...

    def advance(self, file: str, done: int, total: int | None) -> None:
        if done >= self.bytes:
            raise KeyboardInterrupt


@dataclass
class Bench:
    """A server with one file, and a folder to fetch it into."""

    hub: LocalHub
    folder: Path
    progress: Recorder
    remote: RemoteFile

    @property
    def target(self) -> Path:
        return self.folder / NAME

    @property
    def partial(self) -> Path:
        return self.folder / f"{NAME}.{self.remote.version[:16]}.part"

    @property
    def ranges(self) -> list[str | None]:
        return [request.range for request in self.hub.asked]

    def fetch(self) -> str:
        with httpx.Client(follow_redirects=True) as client:
            return download(client, self.remote, self.target, self.folder, self.progress)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(downloading, "PAUSE_SECONDS", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with local_hub() as hub:
        commit = hub.add("org/name", {NAME: DATA})
        url = f"{hub.url}/org/name/resolve/{commit}/{NAME}"
        remote = RemoteFile(NAME, url, sha256(DATA), len(DATA), sha256(DATA))
        yield Bench(hub, tmp_path, Recorder(), remote)


def test_a_file_arrives_whole_with_its_checksum(bench: Bench) -> None:
    assert bench.fetch() == sha256(DATA)
    assert bench.target.read_bytes() == DATA
    assert bench.progress.advanced[-1] == (NAME, len(DATA), len(DATA))
    assert os.listdir(bench.folder) == [NAME]


def test_a_dropped_connection_is_continued_at_the_byte_where_it_broke(bench: Bench) -> None:
    bench.hub.drops[NAME] = [100_000, 50_000]
    bench.fetch()
    assert bench.target.read_bytes() == DATA
    assert bench.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert "broke off at 100.0 kB" in bench.progress.said[0]


def test_a_server_that_ignores_ranges_is_read_again_from_the_start(bench: Bench) -> None:
    bench.hub.drops[NAME] = [100_000]
    bench.hub.ignores_ranges = True
    bench.fetch()
    assert bench.target.read_bytes() == DATA


def test_what_an_earlier_process_left_is_continued(bench: Bench) -> None:
    bench.partial.write_bytes(DATA[:120_000])
    bench.fetch()
    assert bench.ranges == ["bytes=120000-"]
    assert bench.target.read_bytes() == DATA


def test_a_whole_partial_file_is_only_verified(bench: Bench) -> None:
    bench.partial.write_bytes(DATA)
    bench.fetch()
    assert bench.ranges == []
    assert bench.target.read_bytes() == DATA


def test_half_a_file_of_another_version_is_not_continued(bench: Bench) -> None:
    (bench.folder / f"{NAME}.{'0' * 16}.part").write_bytes(b"old" * 1000)
    bench.fetch()
    assert bench.ranges == [None]
    assert bench.target.read_bytes() == DATA


def test_a_partial_file_that_is_too_long_is_begun_anew(bench: Bench) -> None:
    bench.partial.write_bytes(DATA + b"more")
    bench.fetch()
    assert bench.ranges == [None]
    assert bench.target.read_bytes() == DATA


def test_a_partial_file_longer_than_the_server_has_is_begun_anew(bench: Bench) -> None:
    bench.remote = replace(bench.remote, bytes=None)
    bench.partial.write_bytes(DATA + b"more")
    bench.fetch()
    assert bench.target.read_bytes() == DATA


def test_a_file_whose_size_nobody_told_arrives_all_the_same(bench: Bench) -> None:
    bench.remote = replace(bench.remote, bytes=None)
    bench.hub.drops[NAME] = [10_000]
    bench.fetch()
    assert bench.target.read_bytes() == DATA


def test_wrong_bytes_are_removed_and_named(bench: Bench) -> None:
    bench.hub.replaced[NAME] = b"x" * len(DATA)
    with pytest.raises(ChecksumMismatch, match=f"SHA-256 {sha256(b'x' * len(DATA))} instead of"):
        bench.fetch()
    assert os.listdir(bench.folder) == []


def test_a_damaged_partial_file_is_found_out_and_the_next_attempt_succeeds(bench: Bench) -> None:
    bench.partial.write_bytes(b"x" * 100)
    with pytest.raises(ChecksumMismatch):
        bench.fetch()
    bench.fetch()
    assert bench.target.read_bytes() == DATA


def test_small_files_are_verified_by_the_hash_that_git_gives_them(bench: Bench) -> None:
    bench.remote = replace(bench.remote, sha256=None, git_blob=git_blob(DATA))
    bench.fetch()
    bench.target.unlink()
    bench.remote = replace(bench.remote, git_blob=git_blob(b"other"))
    with pytest.raises(ChecksumMismatch, match="git hash"):
        bench.fetch()


def test_more_bytes_than_promised_never_fill_the_disk(bench: Bench) -> None:
    bench.remote = replace(bench.remote, bytes=50_000)
    with pytest.raises(HubUnreachable, match="more than it promised"):
        bench.fetch()
    assert not bench.target.exists()
    assert bench.partial.stat().st_size < len(DATA)


def test_a_server_that_gives_nothing_is_given_up_after_a_few_attempts(bench: Bench) -> None:
    bench.partial.write_bytes(DATA[:1000])
    bench.hub.statuses[NAME] = [503] * 100
    with pytest.raises(HubUnreachable, match=r"answered 503.*what arrived is kept"):
        bench.fetch()
    assert len(bench.hub.asked) == ATTEMPTS
    assert bench.partial.read_bytes() == DATA[:1000]


def test_each_new_byte_renews_the_patience(bench: Bench) -> None:
    bench.hub.drops[NAME] = [1000] * (ATTEMPTS * 2)
    bench.fetch()
    assert bench.target.read_bytes() == DATA


def test_a_busy_server_is_asked_again(bench: Bench) -> None:
    bench.hub.statuses[NAME] = [429, 503]
    bench.fetch()
    assert bench.target.read_bytes() == DATA


def test_a_refusal_is_not_asked_again(bench: Bench) -> None:
    bench.hub.statuses[NAME] = [404]
    with pytest.raises(httpx.HTTPStatusError):
        bench.fetch()
    assert len(bench.hub.asked) == 1


def test_a_verified_file_is_not_fetched_again(bench: Bench) -> None:
    bench.target.write_bytes(DATA)
    assert bench.fetch() == sha256(DATA)
    assert bench.hub.asked == []


def test_a_damaged_file_is_replaced(bench: Bench) -> None:
    bench.target.write_bytes(b"x" * len(DATA))
    bench.fetch()
    assert bench.target.read_bytes() == DATA


def test_an_interruption_keeps_every_byte_that_was_reported(bench: Bench) -> None:
    with httpx.Client() as client, pytest.raises(KeyboardInterrupt):
        download(client, bench.remote, bench.target, bench.folder, InterruptedAt(100_000))
    arrived = bench.partial.stat().st_size
    assert arrived >= 100_000
    assert not bench.target.exists()
    bench.fetch()
    assert bench.ranges[-1] == f"bytes={arrived}-"
    assert bench.target.read_bytes() == DATA


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_on_the_way_is_an_error_of_its_own(bench: Bench) -> None:
    bench.partial.symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"No space left.*CHATKIT_HOME"):
        bench.fetch()
    assert not bench.target.exists()
