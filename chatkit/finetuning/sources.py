"""Reads records from files and from the hub, one after the other, each with its line."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from chatkit.errors import HubUnreachable, InputError

KINDS = (".jsonl", ".json", ".csv", ".parquet")
HUB = "hub:"


class Read(NamedTuple):
    """A record, or why there is none at its place.

    Args:
        source: the file's name.
        line: the line in it, or the place among its records, from 1.
        record: what stands there; None when it cannot be read.
        problem: why not.
    """

    source: str
    line: int
    record: Mapping[str, Any] | None
    problem: str = ""


def read_records(path: str, split: str) -> Iterator[Read]:
    """Read all records of a source; what is larger than memory is read piece by piece.

    Args:
        path: a file, a folder of files, or `hub:OWNER/NAME`.
        split: the split of a hub dataset.

    Raises:
        InputError: there is no such file, or its kind is unknown.
        HubUnreachable: the hub's dataset cannot be had.
    """
    if path.startswith(HUB):
        yield from _from_hub(path.removeprefix(HUB), split)
        return
    for file in files_of(path):
        yield from _from_file(file)


def files_of(path: str) -> list[Path]:
    """List the files of a source on this machine, in the order of their names.

    Raises:
        InputError: there is no such file or folder, or no file of a known kind.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.suffix in KINDS)
        if not files:
            raise InputError(f"The folder {path} holds no file of {', '.join(KINDS)}.")
        return files
    if not place.is_file():
        raise InputError(f"There is no data at {path}; check the path.")
    if place.suffix not in KINDS:
        raise InputError(f"{path} is of an unknown kind; use one of {', '.join(KINDS)}.")
    return [place]


def _from_file(file: Path) -> Iterator[Read]:
    match file.suffix:
        case ".jsonl":
            return _from_jsonl(file)
        case ".json":
            return _from_json(file)
        case ".csv":
            return _from_csv(file)
        case _:
            return _from_parquet(file)


def _from_jsonl(file: Path) -> Iterator[Read]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield _as_read(file, number, json.loads(line))
            except UnicodeDecodeError:
                yield Read(file.name, number, None, "it is not UTF-8")
            except (ValueError, RecursionError) as error:
                yield Read(file.name, number, None, f"its JSON is broken ({error})")


def _from_json(file: Path) -> Iterator[Read]:
    try:
        values = json.loads(file.read_text("utf-8"))
    except json.JSONDecodeError as error:
        yield Read(file.name, error.lineno, None, f"its JSON is broken ({error.msg})")
        return
    except (UnicodeDecodeError, RecursionError) as error:
        yield Read(file.name, 1, None, f"it is no JSON ({error})")
        return
    for number, value in enumerate(values if isinstance(values, list) else [values], 1):
        yield _as_read(file, number, value)


def _from_csv(file: Path) -> Iterator[Read]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines, restkey="")
        try:
            for row in rows:
                if "" in row or None in row.values():
                    problem = "it does not have as many columns as the first line"
                    yield Read(file.name, rows.line_num, None, problem)
                else:
                    yield Read(file.name, rows.line_num, _with_lists(row))
        except (UnicodeDecodeError, csv.Error) as error:
            yield Read(file.name, rows.line_num + 1, None, f"it is no CSV ({error})")


def _from_parquet(file: Path) -> Iterator[Read]:
    import pyarrow
    import pyarrow.parquet

    done = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=1_000):
                for number, record in enumerate(batch.to_pylist(), done + 1):
                    yield _as_read(file, number, record)
                done += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        yield Read(file.name, done + 1, None, f"it is no Parquet ({error})")


def _from_hub(name: str, split: str) -> Iterator[Read]:
    from datasets import load_dataset

    try:
        for number, record in enumerate(load_dataset(name, split=split, streaming=True), 1):
            yield Read(name, number, record)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HubUnreachable(
            f"The dataset {name} cannot be had from the hub ({reason}); check its name and the "
            "network, or download it and give the file."
        ) from error


def _as_read(file: Path, number: int, value: Any) -> Read:
    if isinstance(value, Mapping):
        return Read(file.name, number, value)
    return Read(file.name, number, None, f"it is a {type(value).__name__} and no object")


def _with_lists(row: Mapping[str, str]) -> dict[str, Any]:
    """Take what is JSON in a cell as such: lists of turns, and true or false."""
    return {name: _cell(value) for name, value in row.items()}


def _cell(value: str) -> Any:
    if value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if value.lstrip().startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return found if isinstance(found, list) and found and isinstance(found[0], dict) else value
    return value
