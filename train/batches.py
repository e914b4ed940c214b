"""What the trainer reads, and the check of what it makes of it.

TRL's SFTTrainer gets tokens and labels, and does nothing to them but to put them into batches
(`skip_prepare_dataset`): no template, no mask, no cutting of its own. `CheckedCollator` compares
every batch with the encoded rows all the same, before the model sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from train.arrow_file import arrow_file
from train.encode import Encoded
from train.errors import TrainError
from train.tokens import EncodedRows

IGNORED = -100  # PyTorch's label for a token that is not trained
_GROUP = 512  # sequences written at once

_SCHEMA = pa.schema(
    [
        ("rows", pa.list_(pa.int32())),  # which encoded rows the sequence holds
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("seq_lengths", pa.list_(pa.int32())),  # TRL's name: tokens of each row
        ("length", pa.int32()),  # transformers' name: tokens of the sequence
    ]
)


def training_set(rows: EncodedRows, folder: Path) -> datasets.Dataset:
    """The sequences to train on, a pack or a row each: on the disk of `folder` while in use.

    Raises:
        TrainError: they cannot be written.
    """
    sequences = rows.packs.packs if rows.packs else tuple((row,) for row in range(len(rows)))
    groups = (sequences[at : at + _GROUP] for at in range(0, len(sequences), _GROUP))
    with arrow_file(folder, _SCHEMA) as file:
        for group in groups:
            file.write(_labelled(rows, group))
        return datasets.Dataset.from_file(file.finish())


def _labelled(rows: EncodedRows, sequences: Sequence[Sequence[int]]) -> pa.Table:
    order = np.concatenate([np.asarray(sequence, dtype=np.int64) for sequence in sequences])
    taken = rows.table.select(["input_ids", "trained"]).take(pa.array(order)).combine_chunks()
    ids = taken["input_ids"].combine_chunks().flatten().to_numpy()
    trained = taken["trained"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    lengths = rows.lengths[order]
    labels = np.where(trained, ids, np.int32(IGNORED))
    # A row's first token follows nothing: in a pack it would be learned from the row before.
    labels[np.cumsum(lengths) - lengths] = IGNORED
    row_offsets = np.cumsum([0, *(len(sequence) for sequence in sequences)])
    token_offsets = np.concatenate([[0], np.cumsum(lengths)])[row_offsets]
    return pa.Table.from_arrays(
        [
            _lists(row_offsets, order),
            _lists(token_offsets, ids),
            _lists(token_offsets, labels),
            _lists(row_offsets, lengths),
            pa.array(np.diff(token_offsets), type=pa.int32()),
        ],
        schema=_SCHEMA,
    )


def _lists(offsets: Any, values: Any) -> pa.ListArray:
    return pa.ListArray.from_arrays(
        pa.array(offsets, type=pa.int32()), pa.array(values, type=pa.int32())
    )


class CheckedCollator:
    """A collator that hands on only batches whose loss is on the trained tokens and no others.

    It takes every example's rows from `rows` again, so it does not matter what happened to tokens
    and labels on the way.

    Raises:
        TrainError: on a batch that is not as it must be, with the row and the token.
    """

    def __init__(self, collate: Callable[[list[Any]], dict[str, Any]], rows: EncodedRows) -> None:
        self.collate = collate
        self.rows = rows

    def __call__(self, examples: list[Any]) -> dict[str, Any]:
        """The inner collator's batch, checked."""
        batch = self.collate(examples)
        if "position_ids" in batch:  # all examples flattened into one sequence
            self._check_line(batch, 0, [row for example in examples for row in example["rows"]])
        else:
            for line, example in enumerate(examples):
                self._check_line(batch, line, example["rows"])
        return batch

    def _check_line(self, batch: dict[str, Any], line: int, numbers: Sequence[int]) -> None:
        ids, labels = batch["input_ids"][line].tolist(), batch["labels"][line].tolist()
        positions = batch["position_ids"][line].tolist() if "position_ids" in batch else None
        if positions is None and len(numbers) > 1:
            raise TrainError("the trainer's batch holds several rows a line and no positions")
        at = 0
        for number in numbers:
            row = self.rows[number]
            end = at + len(row.input_ids)
            for what, found, wanted in (
                ("token", ids[at:end], row.input_ids),
                ("label", labels[at:end], _labels(row)),
                ("position", positions and positions[at:end], list(range(end - at))),
            ):
                if found is not None and found != wanted:
                    raise self._mismatch(number, what, found, wanted)
            at = end
        attended = batch["attention_mask"][line].sum().item() if "attention_mask" in batch else at
        if attended != at or any(label != IGNORED for label in labels[at:]):
            raise TrainError(
                f"the trainer's batch attends to {attended} tokens where the rows have {at}, or "
                f"trains padding: {_BLAME}"
            )

    def _mismatch(
        self, number: int, what: str, found: Sequence[int], wanted: Sequence[int]
    ) -> TrainError:
        at = next(
            (i for i, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]),
            min(len(found), len(wanted)),
        )
        has = found[at] if at < len(found) else "nothing"
        return TrainError(
            f"row {self.rows.source(number) + 1}, token {at + 1} of {len(wanted)}: the trainer's "
            f"batch has {what} {has} where {wanted[at]} belongs ({IGNORED} means not trained): "
            f"{_BLAME}"
        )


_BLAME = (
    "what would be trained is not what was marked. Use the pinned versions of trl and "
    "transformers, or train without packing"
)


def _labels(row: Encoded) -> list[int]:
    """Labels of one row, made the plain way: `_labelled` is checked against it."""
    pairs = zip(row.input_ids, row.trained, strict=True)
    return [token if trained and place else IGNORED for place, (token, trained) in enumerate(pairs)]
