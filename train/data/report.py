"""The data report: what became of every row, what the used ones hold, how long they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from train.data.census import KINDS, TRAITS, Census
from train.data.reading import Counts
from train.data.split import PARTS, Selection
from train.packing import pack

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
    """How full sequences are: `efficiency` of rows packed together, `unpacked_efficiency` of one
    row each, padded to the longest. `used` says whether the run trains packs.
    """

    sequences: int
    efficiency: float
    unpacked_efficiency: float
    used: bool


class TokenFacts(_Part):
    """Lengths of the rows that are trained; `dropped` counts the others by reason."""

    sequence_length: int
    rows: int
    dropped: dict[str, int]
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
    dropped: Mapping[str, int],
    sequence_length: int,
    *,
    packed: bool = False,
) -> TokenFacts:
    """Facts about the rows to train on: `trained[i]` of the `lengths[i]` tokens enter the loss.

    No row is longer than `sequence_length`: `dropped` counts those that were, and others.
    """
    ordered = sorted(lengths)
    total, learned = sum(ordered), sum(trained)
    packs = pack(ordered, sequence_length)
    return TokenFacts(
        sequence_length=sequence_length,
        rows=len(ordered),
        dropped=dict(dropped),
        total=total,
        trained=learned,
        trained_share=round(learned / total, 4),
        percentiles={f"p{p}": percentile(ordered, p) for p in PERCENTILES},
        packing=Packing(
            sequences=len(packs.packs),
            efficiency=round(packs.efficiency, 4),
            unpacked_efficiency=round(total / (len(ordered) * ordered[-1]), 4),
            used=packed,
        ),
    )


def percentile(ordered: Sequence[int], share: int) -> int:
    """The smallest value that at least `share` percent of the ordered values do not exceed."""
    return ordered[max(0, -(-share * len(ordered) // 100) - 1)]
