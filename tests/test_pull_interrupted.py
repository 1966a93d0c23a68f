"""Full disks, Ctrl-C and two processes at once: never a half-written model."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest
from local_hub import Gate, LocalHub
from pulling import (
    CHECKPOINT,
    HUB,
    HUB_GGUF,
    InterruptedAfter,
    entry_with,
    folder_of_reference,
)

from chatkit.catalogue import EngineName, Entry
from chatkit.errors import (
    DiskFull,
    ModelUnavailable,
)
from chatkit.loading.disk import size_of
from chatkit.loading.folder import ModelFolder, folder_of
from chatkit.loading.progress import Progress
from chatkit.loading.pull import pull, pull_reference

pytest_plugins = ("hub_fixture",)


def test_a_download_that_would_not_fit_is_not_begun(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 300_000})
    monkeypatch.setattr("chatkit.loading.disk.shutil.disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match=r"400\.\d kB are needed .* 300\.0 kB are free"):
        pull(entry_with(HUB))
    assert hub.asked_for("model.safetensors") == []


def test_what_arrived_already_need_not_fit_again(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        pull(entry_with(HUB), progress=InterruptedAfter(200_000))
    usage = type("Usage", (), {"free": 300_000})
    monkeypatch.setattr("chatkit.loading.disk.shutil.disk_usage", lambda path: usage)
    assert pull(entry_with(HUB)).complete


def test_a_home_that_cannot_be_written(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CHATKIT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ModelUnavailable, match=r"cannot be written .*set CHATKIT_HOME"):
        pull(entry_with(HUB))


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("options", "error"),
    [("size=100k", "DiskFull"), ("ro,size=1m", "ModelUnavailable"), ("size=900k", "")],
)
def test_a_small_and_a_read_only_disk(
    hub: LocalHub, tmp_path: Path, options: str, error: str
) -> None:
    """The disk is mounted in a namespace of its own, seen by the one process only."""
    disk = tmp_path / "home"
    disk.mkdir()
    mount = f'mount -t tmpfs -o {options} tmpfs "$1" && shift && exec "$@"'
    isolated = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(disk)]
    if not _works([*isolated, "true"]):
        pytest.skip("this machine lets no process mount a disk for itself")
    script = (
        "from chatkit.loading.pull import pull_reference\n"
        "try:\n    print(pull_reference('org/name').complete)\n"
        "except Exception as error:\n    print(type(error).__name__)\n"
    )
    done = subprocess.run([*isolated, sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == (error or "True"), done.stderr


def test_a_disk_that_fills_up_while_the_engine_files_are_written(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(entry: Entry, engine: EngineName, folder: ModelFolder, progress: Progress) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("chatkit.loading.pull.materialise", run_out)
    with pytest.raises(DiskFull):
        pull(entry_with(HUB_GGUF))
    assert not folder_of(entry_with(HUB_GGUF)).complete


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


PULL_IN_A_PROCESS = "import sys; from chatkit.cli.pull import pull; pull(sys.argv[1])"


def test_an_interruption_while_files_are_written_fetches_nothing_twice(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(
        entry: Entry, engine: EngineName, folder: ModelFolder, progress: Progress
    ) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("chatkit.loading.pull.materialise", interrupted)
        pull(entry_with(HUB_GGUF))
    assert not folder_of(entry_with(HUB_GGUF)).complete
    assert pull(entry_with(HUB_GGUF)).complete
    assert len(hub.asked_for(".gguf")) == 1


def test_a_new_commit_between_two_attempts_leaves_no_mixture(hub: LocalHub) -> None:
    old = {**CHECKPOINT, "added_tokens.json": b"{}", "config.json": b'{"old": true}'}
    hub.add("org/name", old)
    with pytest.raises(KeyboardInterrupt):
        pull(entry_with(HUB), progress=InterruptedAfter(100_000))
    hub.add("org/name", {**CHECKPOINT, "model.safetensors": b"new weights"})
    folder = pull(entry_with(HUB))
    assert {path.name for path in folder.checkpoint.iterdir()} == set(CHECKPOINT)
    assert not (folder.tokenizer / "added_tokens.json").exists()
    assert not folder.staging.exists()
    assert (folder.checkpoint / "config.json").read_bytes() == CHECKPOINT["config.json"]
    assert (folder.checkpoint / "model.safetensors").read_bytes() == b"new weights"


@pytest.mark.lengthy
@pytest.mark.parametrize("deadly", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_process_leaves_a_pull_that_goes_on(
    hub: LocalHub, deadly: signal.Signals
) -> None:
    gate = hub.gates["model.safetensors"] = Gate()
    folder = folder_of_reference()
    process = start_pull()
    assert gate.reached.wait(60)
    wait_for_bytes(folder, 150_000)
    process.send_signal(deadly)
    process.communicate(timeout=60)
    gate.opened.set()
    assert process.returncode != 0
    assert not folder.complete
    assert pull_reference("org/name").complete
    assert (folder.checkpoint / "model.safetensors").read_bytes() == CHECKPOINT["model.safetensors"]
    again = hub.asked_for("model.safetensors")[-1]
    assert again.range is not None
    assert int(again.range.removeprefix("bytes=").removesuffix("-")) >= 150_000


@pytest.mark.lengthy
def test_two_processes_download_once_and_the_second_says_that_it_waits(hub: LocalHub) -> None:
    gate = hub.gates["model.safetensors"] = Gate()
    first = start_pull()
    assert gate.reached.wait(60)
    second = start_pull()
    waiting = line_with("Another process is pulling org/name; waiting", second.stderr)
    gate.opened.set()
    _, first_said = first.communicate(timeout=60)
    _, second_said = second.communicate(timeout=60)
    assert waiting
    assert (first.returncode, second.returncode) == (0, 0), first_said + second_said
    assert "org/name is complete: another process has pulled it." in second_said
    assert len(hub.asked_for("model.safetensors")) == 1
    assert folder_of_reference().complete


@pytest.mark.lengthy
def test_when_the_first_process_dies_the_waiting_one_takes_over(hub: LocalHub) -> None:
    gate = hub.gates["model.safetensors"] = Gate()
    first = start_pull()
    assert gate.reached.wait(60)
    second = start_pull()
    assert line_with("waiting until it has finished", second.stderr)
    gate.opened.set()
    first.kill()
    first.communicate(timeout=60)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert folder_of_reference().complete


@pytest.mark.lengthy
def test_a_process_that_stops_waiting_does_not_disturb_the_first(hub: LocalHub) -> None:
    gate = hub.gates["model.safetensors"] = Gate()
    first = start_pull()
    assert gate.reached.wait(60)
    second = start_pull()
    assert line_with("waiting until it has finished", second.stderr)
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=60)
    gate.opened.set()
    _, said = first.communicate(timeout=60)
    assert (first.returncode, second.returncode != 0) == (0, True), said
    assert folder_of_reference().complete


def start_pull() -> "subprocess.Popen[str]":
    """Pull org/name in a process of its own."""
    command = [sys.executable, "-c", PULL_IN_A_PROCESS, "org/name"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def wait_for_bytes(folder: ModelFolder, wanted: int) -> None:
    """Wait until so many bytes of the weights are on the disk."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(size_of(path) >= wanted for path in folder.staging.glob("model.safetensors.*")):
            return
        time.sleep(0.01)
    raise AssertionError(f"fewer than {wanted} bytes arrived in {folder.staging}")


def line_with(words: str, output: IO[str] | None) -> str | None:
    """Read a process's output up to the line that has the words."""
    assert output is not None
    return next((line for line in output if words in line), None)
