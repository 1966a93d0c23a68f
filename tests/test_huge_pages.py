"""A model's weights are gathered into large pages of memory, where the system has them."""

import mmap
import time
from pathlib import Path
from queue import SimpleQueue

import pytest

from chatkit.catalogue import find
from chatkit.engines import huge_pages
from chatkit.engines.huge_pages import (
    LEAST_BYTES,
    PAGE_BYTES,
    gather,
    gathered_into_huge_pages,
    huge_pages_available,
    private_regions,
)
from chatkit.engines.llamacpp_server import start_llamacpp
from chatkit.loading.folder import require_pulled

pytestmark = pytest.mark.skipif(
    not huge_pages_available(), reason="this system has no large pages to give"
)
SIZE = 2 * LEAST_BYTES


def new_regions(before: list[huge_pages.Region]) -> list[huge_pages.Region]:
    return [region for region in private_regions() if region not in before]


def in_large_pages() -> int:
    """Count the bytes of this process that lie in large pages."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("AnonHuge")) * 1024


def wait_for_large_pages(least: int) -> bool:
    return any(in_large_pages() >= least or time.sleep(0.1) for _ in range(300))


def anonymous(size: int = SIZE) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


@pytest.mark.lengthy
def test_memory_keeps_what_it_holds() -> None:
    before = private_regions()
    with anonymous() as memory:
        memory.write(bytes(range(256)) * (SIZE // 256))
        had = in_large_pages()
        gathered = gather(new_regions(before))
        assert gathered >= SIZE - 2 * PAGE_BYTES
        assert in_large_pages() - had >= SIZE - 2 * PAGE_BYTES
        assert memory[:] == bytes(range(256)) * (SIZE // 256)


def test_memory_that_holds_little_is_left_small() -> None:
    before = private_regions()
    with anonymous() as memory:
        for start in range(0, SIZE, PAGE_BYTES):
            memory[start] = 1
        assert gather(new_regions(before)) == 0


@pytest.mark.lengthy
def test_memory_that_was_given_back_is_left_alone() -> None:
    before = private_regions()
    with anonymous() as memory:
        memory.write(b"x" * SIZE)
        gone = new_regions(before)
    assert gather(gone) == 0


def test_small_pieces_and_files_are_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x" * SIZE)
    before = private_regions()
    with (
        file.open("r+b") as opened,
        mmap.mmap(opened.fileno(), SIZE, flags=mmap.MAP_PRIVATE),
        anonymous(LEAST_BYTES // 4),
    ):
        assert new_regions(before) == []


def test_what_was_there_before_is_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: SimpleQueue[list[huge_pages.Region]] = SimpleQueue()
    monkeypatch.setattr(huge_pages, "DELAY_SECONDS", 0)
    monkeypatch.setattr(huge_pages, "gather", asked.put)
    with anonymous() as outside:
        outside.write(b"x" * SIZE)
        with gathered_into_huge_pages():
            pass
        assert asked.get(timeout=30) == []


@pytest.fixture
def weights(model_home: Path) -> Path:
    return require_pulled(find("smollm2-135m")).gguf


@pytest.mark.model
def test_the_embedded_engines_weights_come_into_large_pages(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huge_pages, "DELAY_SECONDS", 0)
    had = in_large_pages()
    server = start_llamacpp(weights, context=512, slots=1)
    assert wait_for_large_pages(had + weights.stat().st_size * 9 // 10)
    server.retire()


@pytest.mark.model
def test_a_system_without_large_pages_keeps_the_file_mapped(
    weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setting = tmp_path / "enabled"
    setting.write_text("always madvise [never]\n")
    monkeypatch.setattr(huge_pages, "SETTING", setting)
    server = start_llamacpp(weights, context=512, slots=1)
    assert str(weights.resolve()) in Path("/proc/self/maps").read_text()
    server.retire()
