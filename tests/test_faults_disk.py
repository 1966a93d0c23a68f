"""A disk that fills up while people write."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from scripted_service import (
    SCRIPTED,
    USER,
    asked,
    long_answer,
    opened,
    rises,
    shown,
    slow_script,
    status_of,
    stored,
    watched,
)

from chatkit.answering import run
from chatkit.chat import ChatService
from chatkit.engine import Delta
from chatkit.engines.scripted import ScriptedEngine
from chatkit.errors import DiskFull, StoreUnavailable
from chatkit.live.event import Event
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling

pytestmark = pytest.mark.anyio

DISK_BYTES = 16 << 20
LONG = "x" * 1_500
HALT_AFTER = 300


class HaltingEngine(ScriptedEngine):
    """Writes a third of its answer and waits, so that the disk fills up before the end."""

    def __init__(self) -> None:
        super().__init__(slow_script(token_seconds=0.001))
        self.go_on = asyncio.Event()

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer; see `ScriptedEngine.stream`."""
        number = 0
        async for delta in super().stream(prompt, sampling, adapter):
            if number == HALT_AFTER:
                await self.go_on.wait()
            yield delta
            number += 1


class SmallDisk:
    """A file system of 16 MiB that is filled up and emptied again.

    Args:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave no byte."""
        with self._filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Give all of it back."""
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    """Keep everything on a small disk of this test's own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}"]
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("a small disk needs the right to mount one")
    if subprocess.run(["mount", *options, "chatkit", folder], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    monkeypatch.setenv("CHATKIT_HOME", str(folder / "home"))
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", folder], check=True)


async def fill_up(service: ChatService, disk: SmallDisk) -> DiskFull:
    """Fill the disk, and the room that the database's own files still have."""
    conversation = await service.begin(USER)
    await asked(service, conversation, "first")
    answer = (await service.page(USER, conversation)).messages[-1].node.id
    disk.fill()
    for size in (100_000, 1_000, 1):
        error = await _refused(service, conversation, answer, "x" * size)
    return error


async def _refused(service: ChatService, conversation: str, answer: str, text: str) -> DiskFull:
    for _ in range(500):
        try:
            await service.edit(USER, conversation, answer, text, SCRIPTED)
        except DiskFull as error:
            return error
    raise AssertionError("the disk took everything")


async def begun(service: ChatService, seen: list[Event]) -> tuple[str, str, asyncio.Task[None]]:
    """Ask while somebody watches, and wait until some of the answer is stored."""
    conversation = await service.begin(USER)
    turn = await service.send(USER, conversation, "go", SCRIPTED)

    async def watch() -> None:
        async for event in service.subscribe(USER, conversation, turn.answer):
            seen.append(event)

    watching = asyncio.create_task(watch())
    while not (await stored(service, conversation, turn.answer)).message.content:
        await asyncio.sleep(0.01)
    return conversation, turn.answer, watching


def is_sound(disk: SmallDisk) -> bool:
    """Let SQLite look through its file."""
    with sqlite3.connect(disk.folder / "home" / "chatkit.db") as database:
        found: list[tuple[str]] = database.execute("PRAGMA integrity_check").fetchall()
    return found == [("ok",)]


@pytest.mark.lengthy
async def test_a_full_disk_refuses_a_question_whole_and_takes_it_when_there_is_room(
    disk: SmallDisk,
) -> None:
    async with opened() as service:
        conversation = await service.begin(USER)
        await asked(service, conversation, "first")
        error = await fill_up(service, disk)
        assert "no room" in str(error) and "free some space" in str(error)
        before = await service.store.nodes.tree(USER, conversation)
        with pytest.raises(DiskFull):
            await service.send(USER, conversation, LONG, SCRIPTED, client_id="one")
        assert await service.store.nodes.tree(USER, conversation) == before
        disk.free()
        turn = await service.send(USER, conversation, LONG, SCRIPTED, client_id="one")
        events = await watched(service, conversation, turn.answer)
        assert events[-1].kind == "done" and shown(events).startswith("You said: x")
        after = await service.store.nodes.tree(USER, conversation)
        assert after[: len(before)] == before and len(after) == len(before) + 2
    assert is_sound(disk)


@pytest.mark.lengthy
async def test_an_answer_that_meets_a_full_disk_is_whole_when_there_is_room_again(
    disk: SmallDisk,
) -> None:
    engine, seen = HaltingEngine(), list[Event]()
    async with opened(engine) as service, opened() as filler:
        conversation, answer, watching = await begun(service, seen)
        await fill_up(filler, disk)
        engine.go_on.set()
        while shown(seen) != long_answer("go"):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        assert not watching.done()
        disk.free()
        await watching
        node = await stored(service, conversation, answer)
    assert seen[-1].kind == status_of(node) == "done"
    assert rises(seen) and shown(seen) == node.message.content == long_answer("go")
    assert is_sound(disk)


@pytest.mark.lengthy
async def test_an_answer_whose_end_finds_no_room_for_long_says_so_and_is_stored_later(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STORE_SECONDS", 0.5)
    monkeypatch.setattr(run, "STORE_PAUSE_SECONDS", 0.1)
    engine, seen = HaltingEngine(), list[Event]()
    async with opened(engine) as service, opened() as filler:
        conversation, answer, watching = await begun(service, seen)
        await fill_up(filler, disk)
        engine.go_on.set()
        await watching
        assert seen[-1].kind == "failed" and "no room" in seen[-1].text
        assert shown(seen) == long_answer("go")
        disk.free()
        while status_of(node := await stored(service, conversation, answer)) == "running":
            await asyncio.sleep(0.05)
        assert status_of(node) == "failed" and node.message.content == long_answer("go")
        again = await watched(service, conversation, answer)
        assert again[-1].text == seen[-1].text and again[-1].seq == seen[-1].seq
        assert await asked(service, conversation, "again") == long_answer("again")
    assert is_sound(disk)


@pytest.mark.lengthy
async def test_a_process_ends_in_good_order_on_a_full_disk(disk: SmallDisk) -> None:
    seen: list[Event] = []
    async with opened() as filler:
        async with opened(slow_script()) as service:
            conversation, answer, watching = await begun(service, seen)
            await fill_up(filler, disk)
        # Who still watches when the process ends is told its end, or that the store is closed.
        with suppress(StoreUnavailable):
            await watching
        disk.free()
        node = await stored(filler, conversation, answer)
    assert node.message.content and long_answer("go").startswith(node.message.content)
    assert is_sound(disk)
