"""The rows of a run as tokens, on disk: what `encode_rows` writes and training reads.

An Arrow file holds them, mapped into memory: a data set of any size takes no memory to speak of.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from train.arrow_file import arrow_file
from train.encode import CHUNK_ROWS, Drop, Dropped, Encoded, encode_stream
from train.errors import TrainError
from train.messages import Conversation
from train.packing import pack

log = logging.getLogger(__name__)

Numbers = np.ndarray[Any, np.dtype[np.int32]]

SCHEMA = pa.schema(
    [
        ("row", pa.int32()),  # its place among the conversations, dropped ones included, from 0
        ("input_ids", pa.list_(pa.int32())),
        ("trained", pa.list_(pa.bool_())),
    ]
)


class NothingLeftError(TrainError):
    """No row can be trained whole."""


class EncodedRows(Sequence[Encoded]):
    """The rows as tokens.

    `dropped` counts the rows left out by reason, `lengths` and `trained_lengths` are the tokens of
    each row and those that enter the loss, `packs` is which rows share a sequence, if any do.
    """

    def __init__(self, table: pa.Table, dropped: dict[Drop, int], capacity: int | None) -> None:
        self.table = table
        self.dropped = dropped
        self.lengths = _numpy([pc.list_value_length(part) for part in table["input_ids"].chunks])
        self.trained_lengths = _numpy([_marks(part) for part in table["trained"].chunks])
        self.packs = pack(self.lengths.tolist(), capacity) if capacity else None

    @classmethod
    def of(cls, rows: Sequence[Encoded], *, pack_into: int | None = None) -> EncodedRows:
        """Rows held in memory; `pack_into` is the tokens of a pack."""
        return cls(_table(list(enumerate(rows))), {}, pack_into)

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return int(self.lengths.sum())

    @property
    def trained_tokens(self) -> int:
        """Tokens of all rows that enter the loss."""
        return int(self.trained_lengths.sum())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, index: Any) -> Any:
        """One row, or a list of rows for a slice."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        row = index % len(self)
        return Encoded(self.table["input_ids"][row].as_py(), self.table["trained"][row].as_py())

    def source(self, index: int) -> int:
        """The place of a row among the conversations that were encoded, from 0."""
        return int(self.table["row"][index].as_py())

    def summary(self) -> str:
        """One line for people."""
        parts = [f"{self.tokens:,} in {len(self)} rows, {self.trained_tokens:,} trained"]
        parts += [f"dropped {count} {reason}" for reason, count in self.dropped.items()]
        if self.packs:
            parts.append(f"{len(self.packs.packs)} packs, {self.packs.efficiency:.1%} full")
        return ", ".join(parts)

    def manifest(self) -> dict[str, Any]:
        """What the release's manifest records."""
        counts: dict[str, Any] = {
            "rows": len(self),
            "rows_dropped": dict(self.dropped),
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
        }
        if self.packs:
            counts["packs"] = len(self.packs.packs)
            counts["packing_efficiency"] = round(self.packs.efficiency, 4)
        return counts


def _numpy(parts: list[pa.Array]) -> Numbers:
    return np.concatenate([np.zeros(0, np.int32), *(part.to_numpy() for part in parts)])


def _marks(lists: pa.ListArray) -> pa.Array:
    """How many are true in each list."""
    counted = np.concatenate([[0], np.cumsum(lists.flatten().to_numpy(zero_copy_only=False))])
    offsets = lists.offsets.to_numpy()
    return pa.array(np.diff(counted[offsets - offsets[0]]), type=pa.int32())


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Conversation],
    sequence_length: int,
    *,
    packing: bool = False,
    folder: Path | None = None,
    on_done: Callable[[int], None] = lambda done: None,
) -> EncodedRows:
    """Render and tokenize rows; one that cannot be trained whole is left out and counted.

    `folder` is where the tokens are kept while they are in use, None means in memory. `on_done`
    gets the number of rows done so far.

    Raises:
        EncodeError: the template or the tokenizer does not say what is trained.
        NothingLeftError: no row is left.
        TrainError: the disk is full.
    """
    dropped: Counter[Drop] = Counter()
    shortest: int | None = None
    first: dict[Drop, str] = {}

    def fitting() -> Iterator[tuple[int, Encoded]]:
        nonlocal shortest
        for number, row in enumerate(encode_stream(tokenizer, rows)):
            if isinstance(row, Encoded) and len(row.input_ids) > sequence_length:
                shortest = min(shortest or len(row.input_ids), len(row.input_ids))
                row = too_long(row)
            if isinstance(row, Dropped):
                dropped[row.reason] += 1
                first.setdefault(row.reason, f"row {number + 1}: {row.detail}")
            else:
                yield number, row
            if (number + 1) % CHUNK_ROWS == 0:
                on_done(number + 1)

    table = _collect(fitting(), folder)
    for reason, count in dropped.most_common():
        log.warning("%d rows are left out as %s; the first is %s", count, reason, first[reason])
    if not table.num_rows:
        raise NothingLeftError(_nothing_left(dropped, sequence_length, shortest))
    on_done(table.num_rows + dropped.total())
    counts = dict(dropped.most_common())
    return EncodedRows(table, counts, sequence_length if packing else None)


def too_long(row: Encoded) -> Dropped:
    """What becomes of a row that is longer than the sequence length."""
    return Dropped("too-long", f"{len(row.input_ids)} tokens")


def _collect(rows: Iterator[tuple[int, Encoded]], folder: Path | None) -> pa.Table:
    """All rows as one table, on the disk of `folder` or in memory."""
    tables = (_table(chunk) for chunk in iter(lambda: list(islice(rows, CHUNK_ROWS)), []))
    if folder is None:
        return pa.concat_tables([SCHEMA.empty_table(), *tables])
    with arrow_file(folder, SCHEMA) as file:
        for table in tables:
            file.write(table)
        return pa.ipc.open_stream(pa.memory_map(file.finish())).read_all()


def _nothing_left(dropped: Counter[Drop], sequence_length: int, shortest: int | None) -> str:
    if shortest is not None and set(dropped) == {"too-long"}:
        return (
            f"no row fits into sequence_length {sequence_length}; the shortest has {shortest} "
            "tokens. Raise sequence_length"
        )
    reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.most_common()) or "no rows"
    return f"no row is left to train on ({reasons}): see docs/training.md, Mask and packing"


def _table(rows: Sequence[tuple[int, Encoded]]) -> pa.Table:
    columns = (
        [number for number, _ in rows],
        [row.input_ids for _, row in rows],
        [row.trained for _, row in rows],
    )
    arrays = [
        pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
