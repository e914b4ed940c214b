"""From a file, a folder or a hub id to conversations, one row at a time.

`read` is the stream; `load` keeps it all. Both count what they had to refuse, write it to a reject
file and stop when it is more than the allowed share.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from train.data.errors import DataError, Doubt, DoubtKind, Reason, RowError
from train.data.files import RawRow, Reject, file_rows, file_sha256
from train.data.formats import SAMPLED, Format, detect, parse_row
from train.data.hub import HubData, hub_rows, is_hub_id, resolved_revision
from train.messages import Conversation

MAX_REJECTS = 0.1
SHOWN_REJECTS = 3
RAW_SHOWN = 500  # characters of the raw row in the reject file


@dataclass(frozen=True)
class Source:
    """Where rows come from and how they are read.

    `data` is a file (JSON Lines, a JSON array, Parquet), a folder or a hub id (`org/name`); the
    last two are read through `datasets`, and `revision`, `subset` and `split` are theirs.
    """

    data: str | Path
    format: Format | Literal["auto"] = "auto"
    revision: str = "main"
    subset: str | None = None
    split: str = "train"

    @property
    def path(self) -> Path:
        """The data as a path of this machine."""
        return Path(self.data).expanduser()

    def hub(self) -> HubData | None:
        """What `datasets` is to open; None for a single file."""
        path = self.path
        if path.is_dir():
            return HubData(str(path), "main", self.subset, self.split)
        if not path.exists() and is_hub_id(str(self.data)):
            return HubData(str(self.data), self.revision, self.subset, self.split)
        return None

    def raw_rows(self) -> Iterator[RawRow | Reject]:
        """The rows as they stand in the source. Raises DataError."""
        hub = self.hub()
        return hub_rows(hub) if hub else file_rows(self.path)


@dataclass(frozen=True)
class Row:
    """A row that was read: its number in the source, and why it may be left out of training."""

    number: int
    conversation: Conversation
    doubts: tuple[Doubt, ...] = ()


@dataclass
class Counts:
    """What a pass over the rows has met so far; whole when the pass is over."""

    read: int = 0
    rejects: Counter[Reason] = field(default_factory=Counter)
    doubts: Counter[DoubtKind] = field(default_factory=Counter)
    doubtful: int = 0
    first: list[Reject] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Rows that could not be read."""
        return self.rejects.total()

    @property
    def rows(self) -> int:
        """All rows of the source, refused ones included."""
        return self.read + self.refused

    def reject(self, reject: Reject) -> None:
        """Count a row that was refused."""
        self.rejects[reject.reason] += 1
        if len(self.first) < SHOWN_REJECTS:
            self.first.append(reject)

    def accept(self, row: Row) -> None:
        """Count a row that was read."""
        self.read += 1
        self.doubtful += bool(row.doubts)
        self.doubts.update({doubt.kind for doubt in row.doubts})


class Reader:
    """One pass over a data set: iterate over it for its rows, then look at what it counted.

    `max_rejects` is the largest share (0 to 1) of rows that may be refused; more end the iteration
    with a DataError, as does a data set without a good row. `reject_file` gets a JSON line for
    each row that was refused and for each row with doubts: its number, reason, detail, whether it
    was refused, and the start of the raw row. It is written even when the pass fails.
    """

    def __init__(
        self, source: Source, *, max_rejects: float = MAX_REJECTS, reject_file: Path | None = None
    ) -> None:
        if not 0 <= max_rejects <= 1:
            raise ValueError(f"max_rejects is a share from 0 to 1, not {max_rejects}")
        if reject_file is not None and reject_file.resolve() == source.path.resolve():
            raise DataError(f"{reject_file}: the reject file is the data file; name another")
        self.source = source
        self.counts = Counts()
        self.format: Format | None = None  # known once the iteration has begun
        self.sha256 = ""  # of the file, or of the rows of a table; whole when the pass is over
        self._max_rejects = max_rejects
        self._reject_file = reject_file

    def revision(self) -> str:
        """What pins the data: the commit on the hub, or the start of the hash. After the pass."""
        hub = self.source.hub()
        known = resolved_revision(hub) if hub else "local"
        return self.sha256[:12] if known == "local" else known

    def __iter__(self) -> Iterator[Row]:
        self.counts = counts = Counts()
        with _reject_writer(self._reject_file) as write:
            for row in self._rows():
                if isinstance(row, Reject):
                    counts.reject(row)
                    write(row, True)
                    continue
                result = _parse(row, self._format)
                if isinstance(result, Reject):
                    counts.reject(result)
                    write(result, True)
                    continue
                counts.accept(result)
                if result.doubts:
                    write(_doubtful(row, result), False)
                yield result
        self._check()

    @property
    def _format(self) -> Format:
        assert self.format is not None, "rows are parsed after their format is known"
        return self.format

    def _rows(self) -> Iterator[RawRow | Reject]:
        """The raw rows; the format is known before the first comes out, the hash after the last."""
        hub = self.source.hub()
        rows = self.source.raw_rows()
        if not hub:
            self.sha256 = file_sha256(self.source.path)
        self.format, rows = known_format(self.source, rows)
        if not hub:
            yield from rows
            return
        digest = hashlib.sha256()
        for row in rows:
            digest.update(row.raw.encode(errors="backslashreplace") + b"\n")
            yield row
        self.sha256 = digest.hexdigest()

    def _check(self) -> None:
        """Refuse a source that gave too little; the message shows the first rejects."""
        counts = self.counts
        if counts.read and counts.refused <= self._max_rejects * counts.rows:
            return
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts.rejects.most_common())
        shown = "\n".join(f"  {reject}" for reject in counts.first)
        file = self._reject_file
        more = f"All of them are in {file}." if file else "A reject file would list all of them."
        raise DataError(
            f"{self.source.data}: {counts.refused:,} of {counts.rows:,} rows cannot be used "
            f"({reasons}); allowed is a share of {self._max_rejects:g}, and at least one good row. "
            f"The first:\n{shown}\n{more} They were read as {self.format}: if that is right, "
            "correct the rows or allow more with max_rejects; if not, set data_format"
        )


@dataclass(frozen=True)
class Loaded:
    """All rows of a data set, and what a pass over it counted."""

    source: Source
    format: Format
    sha256: str
    rows: tuple[Row, ...]
    counts: Counts

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """The conversations alone, those with doubts included."""
        return tuple(row.conversation for row in self.rows)


def read(
    data: str | Path,
    format: Format | Literal["auto"] = "auto",
    *,
    max_rejects: float = MAX_REJECTS,
    reject_file: Path | None = None,
) -> Reader:
    """Stream a data set: `for row in read("rows.jsonl"): row.conversation`. See Source, Reader."""
    return Reader(Source(data, format), max_rejects=max_rejects, reject_file=reject_file)


def load(
    data: str | Path,
    format: Format | Literal["auto"] = "auto",
    *,
    max_rejects: float = MAX_REJECTS,
    reject_file: Path | None = None,
) -> Loaded:
    """Read all rows of a data set into memory. Raises DataError."""
    reader = read(data, format, max_rejects=max_rejects, reject_file=reject_file)
    rows = tuple(reader)
    assert reader.format is not None, "a pass that ended has a format"
    return Loaded(reader.source, reader.format, reader.sha256, rows, reader.counts)


def known_format(
    source: Source, rows: Iterator[RawRow | Reject]
) -> tuple[Format, Iterator[RawRow | Reject]]:
    """The format of the source and its rows, none of them lost. Raises DataError."""
    if source.format != "auto":
        return source.format, rows
    sample = list(itertools.islice(rows, SAMPLED))
    good = [row.data for row in sample if isinstance(row, RawRow)]
    if not good:
        shown = "\n".join(f"  {row}" for row in sample[:SHOWN_REJECTS])
        raise DataError(
            f"{source.data}: none of the first {len(sample)} rows can be used, so that the format "
            f"cannot be detected. The first:\n{shown}\nIs it JSON Lines, with one object a line?"
        )
    return detect(str(source.data), good), itertools.chain(sample, rows)


def parse(row: RawRow, format: Format) -> Row:
    """A raw row as a conversation. Raises RowError."""
    reading = parse_row(row.data, format)
    return Row(row.number, reading.conversation, reading.doubts)


def _parse(row: RawRow, format: Format) -> Row | Reject:
    try:
        return parse(row, format)
    except RowError as error:
        return Reject(row.number, error.reason, error.detail, row.raw)


def _doubtful(raw: RawRow, row: Row) -> dict[str, object]:
    first = row.doubts[0]
    more = "".join(f"; {doubt}" for doubt in row.doubts[1:])
    return {
        "number": raw.number, "reason": first.kind, "detail": first.detail + more, "raw": raw.raw,
    }  # fmt: skip


@contextmanager
def _reject_writer(
    path: Path | None,
) -> Iterator[Callable[[Reject | dict[str, object], bool], None]]:
    """A function that writes one row to the reject file, or nowhere."""
    if path is None:
        yield lambda row, refused: None
        return
    try:
        # Half a surrogate pair, which UTF-8 cannot hold, becomes the JSON escape that it came from.
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:

            def write(row: Reject | dict[str, object], refused: bool) -> None:
                entry = row if isinstance(row, dict) else dict(vars(row))
                entry |= {"raw": str(entry["raw"])[:RAW_SHOWN], "refused": refused}
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")

            yield write
    except OSError as error:
        raise DataError(f"{path}: cannot write rejects: {error.strerror or error}") from error
