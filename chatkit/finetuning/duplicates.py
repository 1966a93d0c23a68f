"""Finds rows that were seen before, word for word or nearly; what is remembered is on disk.

Near duplicates are found by MinHash (Broder 1997) over runs of three words, in bands (Leskovec,
Rajaraman, Ullman: Mining of Massive Datasets, chapter 3).
"""

import re
import sqlite3
import tempfile
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy
from numpy.typing import NDArray

HASHES, BANDS = 64, 16
SHINGLE_WORDS = 3
# Of the signature, below which two rows are different after all.
ALIKE = 0.8
_PRIME = numpy.uint64((1 << 61) - 1)
_WORD = re.compile(r"\w+")


class Duplicates:
    """Remembers rows in a temporary database.

    Args:
        mode: `near` and `exact` remember, `keep` finds nothing.
    """

    def __init__(self, mode: Literal["near", "exact", "keep"]) -> None:
        self._mode = mode
        self._folder = tempfile.TemporaryDirectory(prefix="chatkit-duplicates-")
        self._database = sqlite3.connect(Path(self._folder.name) / "seen.db")
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("CREATE TABLE exact (hash INTEGER PRIMARY KEY)")
        self._database.execute("CREATE TABLE signatures (id INTEGER PRIMARY KEY, hashes BLOB)")
        self._database.execute(
            "CREATE TABLE bands (hash INTEGER, id INTEGER, PRIMARY KEY (hash, id)) WITHOUT ROWID"
        )
        draw = numpy.random.default_rng(0)
        self._factors = draw.integers(1, 1 << 31, HASHES, dtype=numpy.uint64)
        self._offsets = draw.integers(0, 1 << 31, HASHES, dtype=numpy.uint64)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def is_new(self, texts: Sequence[str]) -> bool:
        """Tell whether nothing like this was seen, and remember it.

        Args:
            texts: all texts of a row.
        """
        if self._mode == "keep":
            return True
        if not self._remember_exact(_hash("\0".join(texts).encode())):
            return False
        return self._mode == "exact" or self._remember_near(texts)

    def _remember_exact(self, number: int) -> bool:
        added = self._database.execute("INSERT OR IGNORE INTO exact VALUES (?)", (number,))
        return added.rowcount == 1

    def _remember_near(self, texts: Sequence[str]) -> bool:
        signature = self._signature(texts)
        bands = [_hash(bytes([n]) + part.tobytes()) for n, part in _banded(signature)]
        marks = ",".join("?" * len(bands))
        query = (
            f"SELECT DISTINCT hashes FROM bands JOIN signatures USING (id) WHERE hash IN ({marks})"
        )
        for (held,) in self._database.execute(query, bands):
            same = numpy.frombuffer(held, numpy.uint32) == signature
            if same.mean() >= ALIKE:
                return False
        added = self._database.execute(
            "INSERT INTO signatures (hashes) VALUES (?)", (signature.tobytes(),)
        )
        rows = [(band, added.lastrowid) for band in bands]
        self._database.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", rows)
        return True

    def _signature(self, texts: Sequence[str]) -> NDArray[numpy.uint32]:
        words = _WORD.findall("\n".join(texts).lower())
        runs = {" ".join(words[n : n + SHINGLE_WORDS]) for n in range(max(1, len(words) - 2))}
        hashes = numpy.array([_hash(run.encode()) & 0x7FFFFFFF for run in runs], numpy.uint64)
        mixed = (hashes[:, None] * self._factors + self._offsets) % _PRIME
        least: NDArray[numpy.uint64] = mixed.min(axis=0)
        return (least & numpy.uint64(0xFFFFFFFF)).astype(numpy.uint32)


def _banded(signature: NDArray[numpy.uint32]) -> list[tuple[int, NDArray[numpy.uint32]]]:
    return list(enumerate(signature.reshape(BANDS, HASHES // BANDS)))


def _hash(data: bytes) -> int:
    """Make a number that SQLite can hold."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big", signed=True)
