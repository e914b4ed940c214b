"""Rows as they stand in a local file: JSON Lines, one JSON array, or Parquet, one row at a time."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from train.data.errors import DataError, Reason
from train.data.json_array import elements
from train.data.strict_json import BLANK, plain_at

MAX_ROW = 16 * 1024 * 1024  # bytes; the longest Glaive row has about 20,000
PARQUET_BATCH = 256  # rows that are in memory at a time
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the source.

    `number` counts from 1: the line of a JSON Lines file, the element of a JSON array, the row of
    a table. `text` is the row as JSON text; a table has none, see `raw`.
    """

    number: int
    data: dict[str, Any]
    text: str | None = None

    @property
    def raw(self) -> str:
        """The row's text, for people to read."""
        if self.text is not None:
            return self.text
        return json.dumps(self.data, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Reject:
    """A row that was refused: `reason` for counting, `detail` for reading, `raw` is its text."""

    number: int
    reason: Reason
    detail: str
    raw: str

    def __str__(self) -> str:
        return f"row {self.number}: {self.reason}: {self.detail}"


def file_rows(path: Path) -> Iterator[RawRow | Reject]:
    """Yield the rows of a file, in order; blank lines are no rows.

    A broken line is yielded as a Reject. A broken array cannot be read further: DataError, as
    for a file that is missing, empty or of another kind.
    """
    try:
        with _open(path) as file:
            head = file.read(8192)
            file.seek(0)
            row = None
            for row in _rows(path, file, head):
                yield row
            if row is None:
                raise DataError(f"{path}: empty. It needs at least one row")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def file_sha256(path: Path) -> str:
    """Hash of the file's bytes. Raises DataError."""
    try:
        with _open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def table_row(number: int, data: dict[str, Any]) -> RawRow:
    """A row of a table (Arrow, Parquet), whose nested records have all fields of all rows.

    There a field that a row does not have is null; both are read as not there. What must be told
    apart (an argument that is null) has to be stored as JSON text.
    """
    return RawRow(number, {key: _without_nulls(value) for key, value in data.items()})


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return value


def _open(path: Path) -> BufferedReader:
    if not path.exists():
        raise DataError(f"{path}: no such file. Check the path, or make the data first")
    if not path.is_file():
        what = "a directory. Name the file of rows in it" if path.is_dir() else "not a regular file"
        raise DataError(f"{path}: {what}")
    return path.open("rb")


def _rows(path: Path, file: BufferedReader, head: bytes) -> Iterator[RawRow | Reject]:
    if head.startswith(_PARQUET_MAGIC):
        return _parquet(path, file)
    if b"\0" in head:
        raise DataError(
            f"{path}: not a file of rows. They are read from JSON Lines (one object a line), from "
            "one JSON array, both in UTF-8, and from Parquet"
        )
    is_array = head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    return _array(path, file) if is_array else _lines(path, file)


def _lines(path: Path, file: BufferedReader) -> Iterator[RawRow | Reject]:
    number = 0
    while line := file.readline(MAX_ROW + 1):
        number += 1
        if len(line) > MAX_ROW:
            raise DataError(
                f"{path}: line {number} is longer than {MAX_ROW:,} bytes. "
                "Is it JSON Lines, with one row a line?"
            )
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raw = line.decode(errors="replace")
            yield Reject(number, "encoding", f"not UTF-8: {error}", raw)
            continue
        yield _parse_line(number, text.strip(BLANK))


def _parse_line(number: int, text: str) -> RawRow | Reject:
    try:
        value, end = plain_at(text, 0)
    except ValueError as error:
        return Reject(number, "json", f"{error}", text)
    if end != len(text):
        return Reject(number, "json", f"more text after the JSON, at character {end + 1}", text)
    return _row(number, value, text)


def _row(number: int, value: Any, raw: str) -> RawRow | Reject:
    if isinstance(value, dict):
        return RawRow(number, value, raw)
    detail = f"{type(value).__name__}, not an object with named columns"
    return Reject(number, "not-an-object", detail, raw)


def _array(path: Path, file: BufferedReader) -> Iterator[RawRow | Reject]:
    try:
        for number, (value, raw) in enumerate(elements(file, MAX_ROW), start=1):
            yield _row(number, value, raw)
    except ValueError as error:
        raise DataError(
            f"{path}: {error}. Correct the file, or write it as JSON Lines, where a broken row "
            "is left out and the others are read"
        ) from error


def _parquet(path: Path, file: BufferedReader) -> Iterator[RawRow]:
    try:
        table = pyarrow.parquet.ParquetFile(file)
        number = 0
        for batch in table.iter_batches(PARQUET_BATCH):
            for data in batch.to_pylist():
                number += 1
                yield table_row(number, data)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}. Write it again") from error
