"""Rows from a local file: JSON Lines or one JSON array, one row at a time.

`read_rows` yields rows and broken rows; `load` turns them into conversations, counts what it had
to refuse and stops when that is more than the allowed share.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from train.glaive import RowError, parse_row
from train.json_array import elements
from train.messages import Conversation
from train.strict_json import BLANK, plain_at

MAX_ROW = 16 * 1024 * 1024  # bytes; the longest Glaive row has about 20,000
MAX_REJECTS = 0.1
SHOWN_REJECTS = 3
RAW_SHOWN = 500  # characters of the raw row in the reject file


class DataError(Exception):
    """A data file that cannot be used. The message says what, where and what to do."""


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the file.

    `number` counts from 1: the line of a JSON Lines file, the element of a JSON array. `raw` is
    the row's text.
    """

    number: int
    data: dict[str, Any]
    raw: str


@dataclass(frozen=True)
class Reject:
    """A row that was left out, and why.

    `reason` is `encoding`, `json` or `not-an-object` for a row that is not a JSON object, else one
    of train.glaive.REASONS. `raw` is the row's text.
    """

    number: int
    reason: str
    detail: str
    raw: str

    def __str__(self) -> str:
        return f"row {self.number}: {self.reason}: {self.detail}"


@dataclass(frozen=True)
class Loaded:
    """What a file held. `numbers[i]` is the row that `conversations[i]` came from."""

    path: Path
    sha256: str
    conversations: tuple[Conversation, ...]
    numbers: tuple[int, ...]
    rejects: dict[str, int]

    @property
    def rows(self) -> int:
        """All rows of the file, refused ones included."""
        return len(self.conversations) + sum(self.rejects.values())


def load(
    path: Path, *, max_rejects: float = MAX_REJECTS, reject_file: Path | None = None
) -> Loaded:
    """Read all conversations of a file.

    `max_rejects` is the largest share (0 to 1) of rows that may be refused. `reject_file` gets a
    JSON line for each: row number, reason, detail, the start of the raw row. It is written even
    when the load fails. Raises DataError.
    """
    if not 0 <= max_rejects <= 1:
        raise ValueError(f"max_rejects is a share from 0 to 1, not {max_rejects}")
    if reject_file is not None and reject_file.resolve() == path.resolve():
        raise DataError(f"{reject_file}: the reject file is the data file; name another")
    conversations: list[Conversation] = []
    numbers: list[int] = []
    counts: Counter[str] = Counter()
    first: list[Reject] = []
    sha256 = _sha256(path)
    with _reject_writer(reject_file) as write:
        for row in read_rows(path):
            result = _convert(row)
            if isinstance(result, Conversation):
                conversations.append(result)
                numbers.append(row.number)
                continue
            counts[result.reason] += 1
            if len(first) < SHOWN_REJECTS:
                first.append(result)
            write(result)
    loaded = Loaded(path, sha256, tuple(conversations), tuple(numbers), dict(counts.most_common()))
    _check(loaded, max_rejects, first, reject_file)
    return loaded


def read_rows(path: Path) -> Iterator[RawRow | Reject]:
    """Yield the rows of a JSON Lines file or a JSON array, in order; blank lines are no rows.

    A broken line is yielded as a Reject. A broken array cannot be read further: DataError, as
    for a file that is missing, empty or not text.
    """
    try:
        with _open(path) as file:
            head = file.read(8192)
            file.seek(0)
            if b"\0" in head:
                raise DataError(
                    f"{path}: not a text file. Rows are read from JSON Lines (one object a line) "
                    "or from one JSON array, in UTF-8"
                )
            head = head.removeprefix(codecs.BOM_UTF8).lstrip()
            row = None
            for row in _array(path, file) if head.startswith(b"[") else _lines(path, file):
                yield row
            if row is None:
                raise DataError(f"{path}: empty. It needs at least one row")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _open(path: Path) -> BufferedReader:
    if not path.exists():
        raise DataError(f"{path}: no such file. Check the path, or make the data first")
    if not path.is_file():
        what = "a directory. Name the file of rows in it" if path.is_dir() else "not a regular file"
        raise DataError(f"{path}: {what}")
    return path.open("rb")


def _sha256(path: Path) -> str:
    try:
        with _open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


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


def _convert(row: RawRow | Reject) -> Conversation | Reject:
    if isinstance(row, Reject):
        return row
    try:
        return parse_row(row.data)
    except RowError as error:
        return Reject(row.number, error.reason, error.detail, row.raw)


@contextmanager
def _reject_writer(path: Path | None) -> Iterator[Callable[[Reject], None]]:
    """A function that writes one reject to the file, or nowhere."""
    if path is None:
        yield lambda reject: None
        return
    try:
        # Half a surrogate pair, which UTF-8 cannot hold, becomes the JSON escape that it came from.
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:

            def write(reject: Reject) -> None:
                entry = {**asdict(reject), "raw": reject.raw[:RAW_SHOWN]}
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")

            yield write
    except OSError as error:
        raise DataError(f"{path}: cannot write rejects: {error.strerror or error}") from error


def _check(loaded: Loaded, max_rejects: float, first: list[Reject], file: Path | None) -> None:
    """Refuse a file that gave too little; the message shows the first rejects."""
    refused = sum(loaded.rejects.values())
    if loaded.conversations and refused <= max_rejects * loaded.rows:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in loaded.rejects.items())
    shown = "\n".join(f"  {reject}" for reject in first)
    more = f"All of them are in {file}." if file else "A reject file would list all of them."
    raise DataError(
        f"{loaded.path}: {refused:,} of {loaded.rows:,} rows cannot be used ({reasons}); "
        f"allowed is a share of {max_rejects:g}, and at least one good row. The first:\n{shown}\n"
        f"{more} Is this data in Glaive v2's layout (columns system and chat)? "
        "If so, correct the rows or allow more rejects."
    )
