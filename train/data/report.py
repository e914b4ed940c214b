"""The data report: what became of every row, what the used ones hold, how long they are."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from train.data.census import KINDS, TRAITS, Census
from train.data.reading import Counts
from train.data.split import PARTS, Selection

SCHEMA = 1
PERCENTILES = (1, 10, 25, 50, 75, 90, 95, 99, 100)
TOP_FUNCTIONS = 20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFacts(_Part):
    """Which data this is."""

    name: str
    format: str
    revision: str
    sha256: str


class RowFacts(_Part):
    """What became of the rows: `total` = refused + left out + duplicates + the parts."""

    total: int
    refused: int
    rejects: dict[str, int]
    left_out: dict[str, int]
    duplicates: int
    parts: dict[str, int]
    by_format: dict[str, int]


class FunctionFacts(_Part):
    """Functions by name; the counts are conversations that offer it, and calls."""

    offered: int
    called: int
    never_called: int
    calls: int
    most_called: dict[str, int]


class Packing(_Part):
    """Rows put together into sequences of one length; `efficiency` is the share that is filled."""

    sequences: int
    efficiency: float
    unpacked_efficiency: float
    method: str


class TokenFacts(_Part):
    """Lengths of the rows to train on. Rows longer than `sequence_length` are not trained."""

    sequence_length: int
    rows: int
    too_long: int
    total: int
    trained: int
    trained_share: float
    percentiles: dict[str, int]
    packing: Packing


class DataReport(_Part):
    """reports/data.json of a release."""

    schema_version: int = SCHEMA
    source: SourceFacts
    rows: RowFacts
    kinds: dict[str, int]
    traits: dict[str, int]
    functions: FunctionFacts
    tokens: TokenFacts | None


def build(
    source: SourceFacts,
    counts: Counts,
    selection: Selection,
    census: Census,
    tokens: TokenFacts | None = None,
) -> DataReport:
    """Put the report together from what a pass over the rows has counted."""
    return DataReport(
        source=source,
        rows=RowFacts(
            total=counts.rows,
            refused=counts.refused,
            rejects=dict(counts.rejects.most_common()),
            left_out=dict(selection.left_out.most_common()),
            duplicates=selection.duplicates,
            parts={part: selection.parts[part] for part in PARTS},
            by_format={source.format: counts.read},
        ),
        kinds={kind: census.kinds[kind] for kind in KINDS},
        traits={trait: census.traits[trait] for trait in TRAITS},
        functions=FunctionFacts(
            offered=len(census.offered),
            called=len(census.called),
            never_called=len(census.offered.keys() - census.called.keys()),
            calls=census.called.total(),
            most_called=dict(census.called.most_common(TOP_FUNCTIONS)),
        ),
        tokens=tokens,
    )


def token_facts(
    lengths: Sequence[int],
    trained: Sequence[int],
    sequence_length: int,
    *,
    dropped: int = 0,
    packing: Packing | None = None,
) -> TokenFacts:
    """Facts about lengths: `trained[i]` of the `lengths[i]` tokens of row i enter the loss.

    Rows that are too long are counted and left out; `dropped` adds those that were left out
    before. `packing` is what the trainer measured; without it, the packing is computed here.
    Raises ValueError where no row is left.
    """
    if len(lengths) != len(trained):
        raise ValueError("lengths and trained differ in their length")
    fitting = [
        (length, learned)
        for length, learned in zip(lengths, trained, strict=True)
        if length <= sequence_length
    ]
    if not fitting:
        raise ValueError(f"no row fits into {sequence_length} tokens")
    ordered = sorted(length for length, _ in fitting)
    total, learned = sum(ordered), sum(learned for _, learned in fitting)
    return TokenFacts(
        sequence_length=sequence_length,
        rows=len(fitting),
        too_long=len(lengths) - len(fitting) + dropped,
        total=total,
        trained=learned,
        trained_share=round(learned / total, 4) if total else 0.0,
        percentiles={f"p{p}": percentile(ordered, p) for p in PERCENTILES},
        packing=packing or packed(ordered, sequence_length),
    )


def percentile(ordered: Sequence[int], share: int) -> int:
    """The smallest value that at least `share` percent of the ordered values do not exceed."""
    return ordered[max(0, -(-share * len(ordered) // 100) - 1)]


def packed(lengths: Sequence[int], sequence_length: int) -> Packing:
    """How full sequences get when each row, longest first, goes where it leaves the least room."""
    room: list[int] = []  # what is left in each sequence, in rising order
    sequences = 0
    for length in sorted(lengths, reverse=True):
        at = bisect.bisect_left(room, length)
        if at == len(room):
            sequences += 1
            left = sequence_length - length
        else:
            left = room.pop(at) - length
        bisect.insort(room, left)
    total = sum(lengths)
    longest = max(lengths)
    return Packing(
        sequences=sequences,
        efficiency=round(total / (sequences * sequence_length), 4),
        unpacked_efficiency=round(total / (len(lengths) * longest), 4),
        method="best fit, longest first (computed)",
    )
