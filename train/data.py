"""The rows of a run: what is trained, what is held out, and where they came from."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from release.manifest import Dataset
from train.config import EMBEDDED, TrainConfig
from train.embedded.generator import Split, conversations
from train.errors import TrainError
from train.messages import Conversation
from train.rows import load

log = logging.getLogger(__name__)

EMBEDDED_ROWS = 2000
_HELD_OUT_ROWS = 200


@dataclass(frozen=True)
class Rows:
    """Conversations to train on, the held-out ones by set name, and the data set's identity."""

    train: tuple[Conversation, ...]
    held_out: dict[str, tuple[Conversation, ...]]
    dataset: Dataset


def load_rows(config: TrainConfig, rejects: Path | None = None) -> Rows:
    """Read the configured data and split it; `rejects` is where unreadable rows are written.

    Raises:
        DataError: the file is missing, empty or mostly unreadable.
        TrainError: nothing is left to train on.
    """
    if config.data == EMBEDDED:
        return _embedded(config)
    path = Path(config.data).expanduser()
    loaded = load(path, max_rejects=config.max_rejects, reject_file=rejects)
    if loaded.rejects:
        log.warning(
            "%d of %d rows of %s were unreadable", sum(loaded.rejects.values()), loaded.rows, path
        )
    kept, held_out = _split(loaded.conversations, config.held_out)
    train = tuple(kept[: config.max_samples])
    if not train or not held_out:
        raise TrainError(
            f"{path}: {len(loaded.conversations)} rows leave {len(train)} to train on and "
            f"{len(held_out)} to evaluate; both need at least one. Add rows or change held_out"
        )
    return Rows(
        train,
        {"held-out": tuple(held_out)},
        Dataset(name=path.name, revision=loaded.sha256[:12], sha256=loaded.sha256, rows=len(train)),
    )


def _embedded(config: TrainConfig) -> Rows:
    count = config.max_samples or EMBEDDED_ROWS
    sets: tuple[Split, ...] = ("seen", "unseen")
    train = tuple(conversations("train", count, config.seed))
    content = "\n".join(conversation.model_dump_json() for conversation in train)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Rows(
        train,
        # Another seed than training's: the same held-out rows for every run that is compared.
        {name: tuple(conversations(name, _HELD_OUT_ROWS, 0)) for name in sets},
        Dataset(name=EMBEDDED, revision=f"seed-{config.seed}", sha256=sha256, rows=count),
    )


def _split(
    rows: Sequence[Conversation], share: float
) -> tuple[list[Conversation], list[Conversation]]:
    """Hold rows out by the hash of their content: the same row always falls on the same side."""
    sides: tuple[list[Conversation], list[Conversation]] = ([], [])
    for row in rows:
        digest = hashlib.sha256(row.model_dump_json().encode()).digest()
        sides[int.from_bytes(digest[:4]) < share * 2**32].append(row)
    return sides
