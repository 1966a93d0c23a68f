"""Tokenised rows on disk, written piece by piece and read through the memory map."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow

from chatkit.finetuning.rows import Kind

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_ROWS = 512
_IDS = pyarrow.list_(pyarrow.int32())
_COMMON = {"origin": pyarrow.string(), "length": pyarrow.int32()}
COLUMNS: Mapping[Kind, Mapping[str, Any]] = {
    "example": {"input_ids": _IDS, "labels": _IDS, **_COMMON},
    "pair": {"prompt_ids": _IDS, "chosen_ids": _IDS, "rejected_ids": _IDS, **_COMMON},
    "thumb": {"prompt_ids": _IDS, "completion_ids": _IDS, "label": pyarrow.bool_(), **_COMMON},
    "question": {
        "prompt_ids": _IDS,
        "question": pyarrow.string(),
        "reference": pyarrow.string(),
        **_COMMON,
    },
}


class TableWriter:
    """Writes rows into an Arrow file.

    Args:
        path: the file.
        kind: of its rows.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.rows = 0
        self._schema = pyarrow.schema(list(COLUMNS[kind].items()))
        self._file = pyarrow.OSFile(str(path), "wb")
        self._writer = pyarrow.ipc.new_stream(self._file, self._schema)
        self._waiting: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._flush()
        self._writer.close()
        self._file.close()

    def add(self, row: dict[str, Any]) -> None:
        """Add a row; its columns are those of its kind."""
        self.rows += 1
        self._waiting.append(row)
        if len(self._waiting) == BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            batch = pyarrow.RecordBatch.from_pylist(self._waiting, schema=self._schema)
            self._writer.write_batch(batch)
            self._waiting = []


def read_table(path: Path) -> "Dataset":
    """Open a file that a `TableWriter` wrote; its rows stay on disk."""
    from datasets import Dataset

    return Dataset.from_file(str(path))
