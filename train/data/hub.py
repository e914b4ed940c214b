"""Rows through `datasets`: a data set on the Hugging Face hub, or a local folder of data files.

Rows are streamed: nothing but the part that is read is downloaded or held in memory.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow

from train.data.errors import DataError
from train.data.files import RawRow, table_row

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILE = re.compile(r"\.(jsonl?|parquet|csv|txt|ya?ml|gz|zst)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class HubData:
    """Which rows: a hub id or a local folder, its revision, subset and split."""

    name: str
    revision: str = "main"
    subset: str | None = None
    split: str = "train"


def is_hub_id(name: str) -> bool:
    """Whether it is written as a hub id (`org/name`) and not as a file's path."""
    return bool(_ID.fullmatch(name)) and not _FILE.search(name)


def resolved_revision(data: HubData) -> str:
    """The commit that the revision names today: what makes a run repeatable.

    A local folder has none: its rows are hashed. Raises DataError.
    """
    if Path(data.name).is_dir():
        return "local"
    from huggingface_hub import HfApi

    try:
        sha: str | None = HfApi().dataset_info(data.name, revision=data.revision, timeout=30).sha
    except _known_errors() as error:
        raise _explained(data, error) from error
    return sha or data.revision


def hub_rows(data: HubData) -> Iterator[RawRow]:
    """Yield the rows, in the data set's order. Raises DataError."""
    number = 0
    try:
        for number, row in enumerate(_open(data), start=1):
            yield table_row(number, dict(row))
    except _known_errors() as error:
        raise _explained(data, error, number) from error
    if not number:
        raise DataError(f"{data.name}: the split {data.split!r} is empty. It needs at least a row")


def _open(data: HubData) -> Any:
    # Imported late: it takes seconds, and reading files does not need it.
    import datasets

    folder = Path(data.name).expanduser()
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        saved = datasets.load_from_disk(str(folder))
        return saved[data.split] if isinstance(saved, datasets.DatasetDict) else saved
    local = folder.is_dir()
    return datasets.load_dataset(
        str(folder) if local else data.name,
        data.subset,
        split=data.split,
        revision=None if local else data.revision,
        streaming=True,
    )


def _known_errors() -> tuple[type[Exception], ...]:
    from datasets.exceptions import DatasetsError

    return (OSError, ValueError, KeyError, DatasetsError, httpx.HTTPError, pyarrow.ArrowException)


def _explained(data: HubData, error: Exception, row: int = 0) -> DataError:
    """The error as one that says what to do."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RevisionNotFoundError

    what = f"{data.name} at revision {data.revision}"
    if isinstance(error, GatedRepoError):
        return DataError(
            f"{what}: the data set asks for consent. Accept its terms on huggingface.co and log in "
            "with `hf auth login`"
        )
    if isinstance(error, RevisionNotFoundError):
        return DataError(f"{what}: there is no such revision. Set data_revision to one it has")
    if isinstance(error, DatasetNotFoundError):
        return DataError(
            f"{what}: neither a file or folder here nor a data set on the hub that can be reached. "
            "Check the name, data_revision and, for a private one, `hf auth login`"
        )
    if isinstance(error, ConnectionError | httpx.HTTPError | HfHubHTTPError | TimeoutError):
        return DataError(
            f"{what}: the hub cannot be reached ({_line(error)}). Check the network (and "
            "HF_HUB_OFFLINE), or download the data and name the file or folder"
        )
    where = f", after row {row}" if row else ""
    return DataError(
        f"{what}, split {data.split!r}: cannot be read{where}: {_line(error)}. Check data_split "
        "and data_subset; a file whose rows differ in their columns is read when it is named "
        "itself, not its folder"
    )


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:300]
