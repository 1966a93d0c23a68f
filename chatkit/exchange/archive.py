"""The files of an import: one file, a folder, or a zip, of which nothing is unpacked to disk."""

import io
import re
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from chatkit.exchange.limits import Budget
from chatkit.exchange.place import Place, shown
from chatkit.exchange.scanning import MOST_BYTES

Files = Generator[tuple[Place, IO[bytes]], None, None]
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_CONVERSATIONS = re.compile(r"(?:.*/)?conversations(?:-(\d{1,9}))?\.json", re.DOTALL)
_OTHER = re.compile(r"(?:.*/)?[^./][^/]*\.jsonl?", re.DOTALL)
_SLASH = re.compile(r"[/\\]")
_DRIVE = re.compile(r"[A-Za-z]:")
_ENCRYPTED = 0x1
_BROKEN_ZIP = (BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError)


def opened_files(source: Path | IO[bytes], name: str, budget: Budget) -> Files:
    """Open the files that hold conversations, one at a time.

    Args:
        source: a file, a folder with an unpacked export, or an open file.
        name: what to call it in sentences.
        budget: what is left of the limits.

    Raises:
        ImportRefused: a zip is damaged or hostile, or no file holds conversations.
    """
    place = Place(name)
    if not isinstance(source, Path):
        yield from _in_file(_seekable(source, place, budget), place, budget)
    elif source.is_dir():
        yield from _in_folder(source, place)
    else:
        with source.open("rb") as file:
            yield from _in_file(_seekable(file, place, budget), place, budget)


def _seekable(file: IO[bytes], place: Place, budget: Budget) -> IO[bytes]:
    if file.seekable():
        return file
    allowed = budget.limits.total_bytes
    data = file.read(allowed + 1)
    if len(data) > allowed:
        raise place.refused(f"it has more than {allowed:,} bytes", "import it from a file")
    return io.BytesIO(data)


def _in_file(file: IO[bytes], place: Place, budget: Budget) -> Files:
    start = file.read(4)
    file.seek(-len(start), io.SEEK_CUR)
    if start in _ZIP_STARTS:
        yield from _in_zip(file, place, budget)
    else:
        yield place, file


def _in_folder(folder: Path, place: Place) -> Files:
    names = [path.name for path in sorted(folder.iterdir()) if not path.is_dir()]
    for name in _chosen(names, place):
        inside = Place(f"{place.file}/{name}")
        if not stat.S_ISREG((folder / name).lstat().st_mode):
            raise inside.refused("it is no regular file", "copy the exported file itself there")
        with (folder / name).open("rb") as file:
            yield inside, file


def _in_zip(file: IO[bytes], place: Place, budget: Budget) -> Files:
    try:
        archive = ZipFile(_Bounded(file, place))
    except (*_BROKEN_ZIP, struct.error) as error:
        raise place.refused("the zip is damaged", "download it again") from error
    with archive:
        entries = archive.infolist()
        if len(entries) > budget.limits.entries:
            raise place.refused(
                f"the zip has more than {budget.limits.entries:,} files",
                "import the files with conversations alone",
            )
        for entry in entries:
            _check(entry, place)
        named = {_slashed(entry): entry for entry in entries}
        for name in _chosen([_slashed(entry) for entry in entries], place):
            yield from _in_entry(archive, named[name], Place(f"{place.file}: {name}"))


def _in_entry(archive: ZipFile, entry: ZipInfo, place: Place) -> Files:
    if entry.flag_bits & _ENCRYPTED:
        raise place.refused("it is encrypted", "make the zip anew without a password")
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise place.refused("it is compressed in an unusual way", "make the zip anew with deflate")
    try:
        file = archive.open(entry)
    except (*_BROKEN_ZIP, zlib.error, struct.error) as error:
        raise place.refused("the zip is damaged here", "download it again") from error
    with file:
        yield place, file


def _check(entry: ZipInfo, place: Place) -> None:
    """Refuse names that lead out of the zip, though nothing is unpacked: they come from attackers.

    Raises:
        ImportRefused: it is such a name, or a link.
    """
    parts = _SLASH.split(entry.filename)
    if ".." in parts or not parts[0] or _DRIVE.fullmatch(parts[0]):
        raise place.refused(
            f"the zip holds a file named '{shown(entry.filename)}'",
            "do not trust it, and download your export again",
        )
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise place.refused(
            f"'{shown(entry.filename)}' in the zip is a link", "make the zip anew without links"
        )


def _slashed(entry: ZipInfo) -> str:
    return entry.filename.replace("\\", "/")


def _chosen(names: Sequence[str], place: Place) -> list[str]:
    """Choose the files with conversations: ChatGPT's by their names, else the only JSON file."""
    files = Counter(name for name in names if "__MACOSX/" not in name)
    numbers = {name: match[1] for name in files if (match := _CONVERSATIONS.fullmatch(name))}
    chosen = sorted(numbers, key=lambda name: (int(numbers[name] or -1), name))
    if not chosen:
        chosen = [name for name in files if _OTHER.fullmatch(name)]
        if len(chosen) != 1:
            raise place.refused(
                "it holds no conversations.json and not exactly one other JSON file",
                "choose the file with the conversations itself",
            )
    twice = next((name for name in chosen if files[name] > 1), None)
    if twice is not None:
        raise place.refused(f"'{shown(twice)}' is there twice", "download it again")
    _refuse_gaps({int(number) for number in numbers.values() if number is not None}, place)
    return chosen


def _refuse_gaps(numbers: set[int], place: Place) -> None:
    """Refuse an export of many files of which one in the middle is missing."""
    last = max(numbers, default=0)
    missing = next((n for n in range(min(numbers, default=0), last) if n not in numbers), None)
    if missing is not None:
        raise place.refused(
            f"conversations-{missing:03}.json is missing", "add it, or download it again"
        )


class _Bounded:
    """A file of which only so much is read at once: a zip's directory would be read whole."""

    def __init__(self, file: IO[bytes], place: Place) -> None:
        self._file = file
        self._place = place

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= MOST_BYTES else MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise self._place.refused(
                f"the list of files in the zip has more than {MOST_BYTES:,} bytes",
                "import the files with conversations alone",
            )
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True
