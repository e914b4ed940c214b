"""The rows of a run: what is trained, what is held out, and where they came from."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from release.manifest import Dataset
from train.config import EMBEDDED, TrainConfig
from train.data.census import Census
from train.data.reading import Counts, Reader, Source
from train.data.split import PARTS, Part, Selection, Shares
from train.embedded.generator import Split, conversations
from train.errors import TrainError
from train.messages import Conversation

log = logging.getLogger(__name__)

EMBEDDED_ROWS = 430  # as many as 2 cores train on in seven minutes
_HELD_OUT_ROWS = 200


@dataclass(frozen=True)
class Rows:
    """Conversations to train on, the held-out ones by set name, and the data set's identity.

    `counts` and `selection` say what became of every row of the source; `census` counts what the
    used ones hold.
    """

    train: tuple[Conversation, ...]
    held_out: dict[str, tuple[Conversation, ...]]
    dataset: Dataset
    format: str
    counts: Counts
    selection: Selection
    census: Census


def load_rows(config: TrainConfig, rejects: Path | None = None) -> Rows:
    """Read the configured data and split it; `rejects` is where unreadable rows are written.

    Raises:
        DataError: the data is missing, empty or mostly unreadable.
        TrainError: nothing is left to train on.
    """
    if config.data == EMBEDDED:
        return _embedded(config)
    reader = Reader(source(config), max_rejects=config.max_rejects, reject_file=rejects)
    selection = Selection(shares(config), keep_doubtful=config.keep_doubtful)
    census = Census()
    parts: dict[Part, list[Conversation]] = {name: [] for name in PARTS}
    for name, conversation in selection.sort(reader):
        census.add(conversation)
        parts[name].append(conversation)
    _tell(config, reader.counts, selection)
    train = tuple(parts["train"][: config.max_samples])
    held_out: dict[str, tuple[Conversation, ...]] = {
        name: tuple(parts[name]) for name in PARTS if name != "train" and parts[name]
    }
    if not train or not held_out:
        kept = selection.parts.total()
        raise TrainError(
            f"{config.data}: {reader.counts.read} readable rows, {kept} of them kept, leave "
            f"{len(train)} to train on and {kept - selection.parts['train']} to evaluate; both "
            "need at least one. Add rows or change held_out and held_out_functions"
        )
    dataset = Dataset(
        name=reader.source.path.name if not is_hub(reader) else config.data,
        revision=reader.revision(),
        sha256=reader.sha256,
        rows=len(train),
    )
    return Rows(train, held_out, dataset, str(reader.format), reader.counts, selection, census)


def source(config: TrainConfig) -> Source:
    """Where the configured rows come from."""
    return Source(
        config.data,
        config.data_format,
        config.data_revision,
        config.data_subset,
        config.data_split,
    )


def shares(config: TrainConfig) -> Shares:
    """How much of them is held out."""
    return Shares(config.held_out, config.held_out_functions)


def is_hub(reader: Reader) -> bool:
    """Whether the rows come from a hub id, which is their name, and not from a path."""
    return not reader.source.path.exists()


def _tell(config: TrainConfig, counts: Counts, selection: Selection) -> None:
    if counts.refused:
        log.warning("%d of %d rows of %s were refused", counts.refused, counts.rows, config.data)
    if left_out := selection.left_out.total():
        reasons = ", ".join(f"{kind} {n}" for kind, n in selection.left_out.most_common())
        log.warning("%d rows with doubts are left out (%s)", left_out, reasons)
    if selection.duplicates:
        log.info("%d duplicate rows are left out", selection.duplicates)


def _embedded(config: TrainConfig) -> Rows:
    count = config.max_samples or EMBEDDED_ROWS
    sets: tuple[Split, ...] = ("seen", "unseen")
    train = tuple(conversations("train", count, config.seed))
    # Another seed than training's: the same held-out rows for every run that is compared.
    held_out: dict[str, tuple[Conversation, ...]] = {
        name: tuple(conversations(name, _HELD_OUT_ROWS, 0)) for name in sets
    }
    content = "\n".join(conversation.model_dump_json() for conversation in train)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    census = Census()
    for conversation in (*train, *(row for held in held_out.values() for row in held)):
        census.add(conversation)
    selection = Selection(Shares())
    selection.parts.update({"train": count, "seen": _HELD_OUT_ROWS, "unseen": _HELD_OUT_ROWS})
    return Rows(
        train,
        held_out,
        Dataset(name=EMBEDDED, revision=f"seed-{config.seed}", sha256=sha256, rows=count),
        EMBEDDED,
        Counts(read=selection.parts.total()),
        selection,
        census,
    )
