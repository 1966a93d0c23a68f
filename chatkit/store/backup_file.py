"""The form of a backup: a zip with a manifest and one file of JSON lines for each table.

It is the same for SQLite and PostgreSQL. Sealed columns stay sealed, and no key is inside.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, String, Table

from chatkit.errors import ImportRefused, InputError
from chatkit.store.whole_file import unwritable

FORMAT = "chatkit-backup"
MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 1 << 20
MOST_LINE_BYTES = 64 << 20
# What people write packs to a tenth at best; so much that packs far better is no backup.
MOST_PACKED = 100
MOST_PACKED_BYTES = 1 << 30
_BROKEN = (
    BadZipFile,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    zlib.error,
)


class Part(BaseModel):
    """One table in a backup: how many rows and bytes, and the SHA-256 of these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a backup says of itself.

    Args:
        format: always `chatkit-backup`.
        form: the number of this form.
        schema_version: the version of the database, see `python -m chatkit db versions`.
        made: when, in seconds since 1970.
        encrypted: whether what people wrote is sealed.
        tables: what it holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["chatkit-backup"] = "chatkit-backup"
    form: Literal[1] = 1
    schema_version: str
    made: float
    encrypted: bool
    tables: dict[str, Part]


class BackupWriter:
    """Writes the tables of a backup, and at last the manifest; use it with `with`.

    Args:
        file: open for writing, and for going back in it; what it holds goes.
        target: the name that it will have.
    """

    def __init__(self, file: IO[bytes], target: Path) -> None:
        self._zip = ZipFile(_Sink(file, target), "w", ZIP_DEFLATED, compresslevel=1)
        self.parts: dict[str, Part] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Else what was begun and not ended would be ended whenever it is taken out of memory,
        # and by then another try may be in the file.
        self._zip.fp = None

    @contextmanager
    def table(self, table: Table) -> "Iterator[_TableWriter]":
        """Write one table while inside."""
        with self._zip.open(_name(table.name), "w", force_zip64=True) as file:
            writer = _TableWriter(table, file)
            yield writer
        self.parts[table.name] = writer.part

    def finish(self, manifest: Manifest) -> None:
        """Write what the backup says of itself."""
        self._zip.writestr(MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        self._zip.close()


class _Sink:
    """A file whose failures are not taken for failures of the database."""

    def __init__(self, file: IO[bytes], target: Path) -> None:
        file.seek(0)
        file.truncate()
        self._file = file
        self._target = target

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise unwritable(error, self._target) from error

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def flush(self) -> None:
        """Leave it to the file's owner."""

    def close(self) -> None:
        """Leave it to the file's owner."""


class _TableWriter:
    def __init__(self, table: Table, file: IO[bytes]) -> None:
        self._file = file
        self._binary = _binary_columns(table)
        self._hash = hashlib.sha256()
        self._rows = self._bytes = 0

    @property
    def part(self) -> Part:
        return Part(rows=self._rows, bytes=self._bytes, sha256=self._hash.hexdigest())

    def add(self, rows: Iterable[Any]) -> None:
        """Write rows."""
        for row in rows:
            values = dict(row._mapping)
            for name in self._binary:
                if values[name] is not None:
                    values[name] = base64.b64encode(values[name]).decode()
            line = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            self._file.write(line)
            self._hash.update(line)
            self._rows += 1
            self._bytes += len(line)


class BackupReader:
    """Reads a backup, and trusts nothing in it.

    Args:
        path: the file.

    Raises:
        ImportRefused: it is no backup, or one that was damaged.
        InputError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise InputError(
                f"The backup {path} cannot be read ({error.strerror}); name another file."
            ) from None
        try:
            self._zip = ZipFile(self._file)
            self.manifest = self._read_manifest()
        except BaseException as error:
            self._file.close()
            if isinstance(error, _BROKEN):
                raise self.refused("it is no backup, or was cut off") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()
        self._file.close()

    def refused(self, cause: str, table: str = "") -> ImportRefused:
        """Make the error that names the place."""
        place = f"{self._path.name}: {_name(table)}" if table else self._path.name
        return ImportRefused(f"{place}: {cause}; take another copy of the backup.")

    def check(self) -> None:
        """Read everything once, and compare it with the manifest.

        Raises:
            ImportRefused: something is missing, too much, or was changed.
        """
        expected = {MANIFEST, *map(_name, self.manifest.tables)}
        if sorted(self._zip.namelist()) != sorted(expected):
            raise self.refused("it holds other files than its manifest says")
        for name, part in self.manifest.tables.items():
            info = self._zip.getinfo(_name(name))
            bomb = part.bytes > max(MOST_PACKED_BYTES, MOST_PACKED * info.compress_size)
            if info.file_size != part.bytes or bomb:
                raise self.refused("its size is not what the manifest says", name)
            found, rows = hashlib.sha256(), 0
            for line in self._lines(name):
                found.update(line)
                rows += 1
            if found.hexdigest() != part.sha256 or rows != part.rows:
                raise self.refused("it was changed or is damaged", name)

    def rows(self, table: Table) -> Iterator[dict[str, Any]]:
        """Give the rows of a table, with the columns that it has.

        Raises:
            ImportRefused: a row does not fit.
        """
        columns = {column.name for column in table.columns}
        binary = _binary_columns(table)
        for number, line in enumerate(self._lines(table.name), start=1):
            try:
                values = json.loads(line, parse_constant=_refuse_constant)
                if values.keys() != columns:
                    raise ValueError("other columns")
                for name in binary:
                    if values[name] is not None:
                        values[name] = base64.b64decode(values[name], validate=True)
                if not all(_fits(column, values[column.name]) for column in table.columns):
                    raise ValueError("another type")
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                raise self.refused(f"row {number} does not fit", table.name) from error
            yield values

    def _lines(self, table: str) -> Iterator[bytes]:
        try:
            with self._zip.open(_name(table)) as file:
                while line := file.readline(MOST_LINE_BYTES):
                    yield line
        except _BROKEN as error:
            raise self.refused("it is damaged", table) from error

    def _read_manifest(self) -> Manifest:
        try:
            with self._zip.open(MANIFEST) as file:
                text = file.read(MOST_MANIFEST_BYTES)
            return Manifest.model_validate_json(text)
        except KeyError:
            raise self.refused("it is no backup of chatkit's: it has no manifest") from None
        except ValidationError:
            raise self.refused("its manifest is not one that this chatkit knows") from None


def _fits(column: Column[Any], value: Any) -> bool:
    """Tell whether a column takes a value; SQLite itself takes anything."""
    if value is None:
        return bool(column.nullable)
    kind = column.type
    if isinstance(kind, Float):
        return type(value) in (int, float)
    if isinstance(kind, Integer):
        return type(value) is int and -(2**63) <= value < 2**63
    if isinstance(kind, Boolean):
        return type(value) is bool
    if isinstance(kind, String):
        return type(value) is str and len(value) <= (kind.length or len(value)) and _is_text(value)
    return type(value) is bytes


def _is_text(value: str) -> bool:
    """Tell whether databases can store a text: no NUL, and no half of a surrogate pair."""
    return "\x00" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _binary_columns(table: Table) -> list[str]:
    return [column.name for column in table.columns if isinstance(column.type, LargeBinary)]


def _name(table: str) -> str:
    return f"{table}.jsonl"
