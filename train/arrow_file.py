"""A nameless Arrow file: tables go to disk and come back mapped into memory.

The name goes as soon as the file is mapped. The data lives as long as what was mapped from it, so
even a killed run leaves nothing behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from train.errors import TrainError


class ArrowFile:
    """Takes tables of one schema; `finish` gives the path of the whole."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._stream = pa.ipc.new_stream(pa.OSFile(str(path), "wb"), schema)

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""
        self._stream.write_table(table)

    def finish(self) -> str:
        """End the file. Map it before the `with` block ends: after that it has no name."""
        self._stream.close()
        return str(self._path)


@contextmanager
def arrow_file(folder: Path, schema: pa.Schema) -> Iterator[ArrowFile]:
    """A file on the disk of `folder` that is there while something maps it.

    Raises:
        TrainError: the folder cannot be written, or its disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="tokens-", suffix=".arrow") as file:
            yield ArrowFile(Path(file.name), schema)
    except OSError as error:
        raise TrainError(
            f"tokens cannot be written to {folder}: {error.strerror or error}. About 10 bytes a "
            "token are needed there"
        ) from error
