"""ChatGPT's export in its two forms: one file with all conversations, or many with some each."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from chatkit.errors import ImportRefused
from chatkit.exchange.reading import read_conversations


def conversation(id: str = "c-1") -> dict[str, Any]:
    said = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Hello"]}}
    question = {"id": "q", "parent": None, "children": [], "message": said}
    return {"conversation_id": id, "title": "Hello", "mapping": {"q": question}}


def shards(count: int) -> dict[str, str]:
    return {
        f"conversations-{number:03}.json": json.dumps([conversation(f"c-{number}")])
        for number in range(count)
    }


def zipped(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


OTHERS = {
    "chat.html": "<html></html>",
    "user.json": '{"id": "user-1"}',
    "shared_conversations.json": "[]",
    "export_manifest.json": "{}",
    "__MACOSX/._conversations.json": "\0",
}


def test_the_one_file_form_is_read_from_its_zip(tmp_path: Path) -> None:
    files = {**OTHERS, "conversations.json": json.dumps([conversation()])}
    assert len(read_conversations(zipped(tmp_path / "export.zip", files))) == 1


@pytest.mark.parametrize("folder", ["", "export/", "export\\"])
def test_the_many_file_form_is_read_from_its_zip_in_order(tmp_path: Path, folder: str) -> None:
    files = {folder + name: text for name, text in reversed(shards(12).items())}
    found = read_conversations(zipped(tmp_path / "export.zip", {**OTHERS, **files}))
    assert [one.id for one in found] == [f"c-{number}" for number in range(12)]


def test_the_many_file_form_is_read_from_a_folder(tmp_path: Path) -> None:
    for name, text in {"user.json": "{}", **shards(3)}.items():
        (tmp_path / name).write_text(text, "utf-8")
    assert [one.id for one in read_conversations(tmp_path)] == ["c-0", "c-1", "c-2"]


def test_one_file_of_many_can_be_read_alone(tmp_path: Path) -> None:
    (tmp_path / "conversations-007.json").write_text(json.dumps([conversation()]), "utf-8")
    assert len(read_conversations(tmp_path / "conversations-007.json")) == 1


def test_a_missing_file_of_many_is_refused_by_name(tmp_path: Path) -> None:
    files = shards(4)
    del files["conversations-002.json"]
    with pytest.raises(ImportRefused, match=r"export.zip: conversations-002.json is missing"):
        read_conversations(zipped(tmp_path / "export.zip", files))


def test_the_same_conversation_in_two_files_is_refused(tmp_path: Path) -> None:
    files = {f"conversations-00{number}.json": json.dumps([conversation()]) for number in (0, 1)}
    with pytest.raises(ImportRefused, match=r"conversations-001.json, conversation 1: another"):
        read_conversations(zipped(tmp_path / "export.zip", files))
