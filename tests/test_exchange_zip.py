"""Zips and folders that a stranger may bring: refused, and nothing of them reaches the disk."""

import io
import json
import os
import stat
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.errors import ImportRefused
from chatkit.exchange.limits import Limits
from chatkit.exchange.reading import read_conversations

GOOD = json.dumps([{"title": "Hello", "mapping": {"root": {"parent": None, "message": None}}}])


def zip_of(files: dict[str, str | bytes]) -> io.BytesIO:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    data.seek(0)
    return data


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "a/../../evil", "/etc/passwd", "..\\evil", "C:\\evil", "c:/evil", "a/.."],
)
def test_a_zip_with_a_name_that_leads_outside_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = zip_of({"conversations.json": GOOD, name: b"evil"})
    with pytest.raises(ImportRefused, match=r"the zip holds a file named .* do not trust it"):
        read_conversations(data)
    assert list(tmp_path.iterdir()) == []


def test_a_zip_with_a_link_is_refused() -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        entry = zipfile.ZipInfo("conversations.json")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    data.seek(0)
    with pytest.raises(ImportRefused, match=r"'conversations.json' in the zip is a link"):
        read_conversations(data)


@pytest.mark.lengthy
def test_a_zip_bomb_is_refused_while_it_unpacks() -> None:
    bomb = zip_of({"conversations.json": b"[" + b" " * 50_000_000})
    assert len(bomb.getvalue()) < 100_000
    tracemalloc.start()
    with pytest.raises(ImportRefused, match="more than 5,000,000 bytes"):
        read_conversations(bomb, Limits(total_bytes=5_000_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


def test_a_zip_bomb_of_many_files_counts_them_together() -> None:
    files = {f"conversations-{n:03}.json": b"[" + b" " * 400_000 + b"]" for n in range(5)}
    with pytest.raises(
        ImportRefused, match=r"conversations-002.json: .* more than 1,000,000 bytes"
    ):
        read_conversations(zip_of(files), Limits(total_bytes=1_000_000))


def test_a_zip_of_too_many_files_is_refused() -> None:
    data = zip_of({"conversations.json": GOOD, **{f"{n}.png": b"" for n in range(20)}})
    with pytest.raises(ImportRefused, match="the zip has more than 20 files"):
        read_conversations(data, Limits(entries=20))


def test_a_zip_whose_list_of_files_is_huge_is_refused_before_it_is_read() -> None:
    directory = b"PK\x01\x02" + bytes(42)
    size = 17 * 1024 * 1024
    body = directory * (size // len(directory) + 1)
    end = b"PK\x05\x06" + bytes(8) + len(body).to_bytes(4, "little") + bytes(6)
    with pytest.raises(ImportRefused, match="the list of files in the zip has more than"):
        read_conversations(io.BytesIO(b"PK\x03\x04" + body + end))


def test_the_same_file_twice_in_a_zip_is_refused() -> None:
    data = zip_of({"conversations.json": GOOD})
    with zipfile.ZipFile(data, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("conversations.json", GOOD)
    data.seek(0)
    with pytest.raises(ImportRefused, match=r"'conversations.json' is there twice"):
        read_conversations(data)


@given(st.data())
def test_a_damaged_zip_is_refused_or_read(data: st.DataObject) -> None:
    whole = zip_of({"conversations.json": GOOD}).getvalue()
    place = data.draw(st.integers(4, len(whole) - 1))
    damaged = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    try:
        read_conversations(io.BytesIO(damaged))
    except ImportRefused as error:
        assert "the file" in str(error)


@pytest.mark.parametrize("length", [4, 30, 100, -1])
def test_a_zip_cut_short_is_refused(length: int) -> None:
    whole = zip_of({"conversations.json": GOOD}).getvalue()
    with pytest.raises(ImportRefused, match="the zip is damaged; download it again"):
        read_conversations(io.BytesIO(whole[:length]))


def test_an_encrypted_zip_is_refused() -> None:
    whole = bytearray(zip_of({"conversations.json": GOOD}).getvalue())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ImportRefused, match="it is encrypted; make the zip anew"):
        read_conversations(io.BytesIO(whole))


def test_an_unusual_compression_is_refused() -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("conversations.json", GOOD)
    data.seek(0)
    with pytest.raises(ImportRefused, match="compressed in an unusual way"):
        read_conversations(data)


@pytest.mark.parametrize("files", [{}, {"a.json": GOOD, "b.json": GOOD}, {"chat.html": b"<html>"}])
def test_a_zip_without_conversations_is_refused(files: dict[str, str | bytes]) -> None:
    with pytest.raises(ImportRefused, match=r"it holds no conversations.json and not exactly one"):
        read_conversations(zip_of(files))


def test_a_link_or_a_pipe_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(GOOD)
    for number, make in enumerate((lambda path: path.symlink_to("secret"), os.mkfifo)):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / "conversations.json")
        with pytest.raises(ImportRefused, match="no regular file"):
            read_conversations(folder)
