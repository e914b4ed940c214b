"""How fast rows become conversations, on one core: reading, parsing, splitting, no tokens.

    .venv/bin/python bench/data_reading.py                # 112,960 rows, as many as Glaive v2 has
    .venv/bin/python bench/data_reading.py --like FILE    # of the lengths of this file's rows

The rows of a Glaive file (or embedded ones) are repeated, each with a number of its own, so that
none is a duplicate. The baseline is `json.loads` of the same lines, in the same run.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from train.data import Selection, Shares, read
from train.data.glaive import write_row
from train.embedded.generator import conversations

ROWS = 112_960
SECONDS, MEBIBYTES = 25, 300  # what it may take


def main() -> None:
    """Write the rows, read them twice, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=ROWS, help=f"default {ROWS}")
    parser.add_argument("--like", type=Path, help="a JSON Lines file in Glaive v2's layout")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="toolsmith-bench-") as folder:
        file = Path(folder) / "rows.jsonl"
        with file.open("w", encoding="utf-8") as out:
            out.writelines(islice(lines(arguments.like), arguments.rows))
        started = time.process_time()
        with file.open(encoding="utf-8") as source:
            rows = sum(1 for line in source if json.loads(line))
        baseline = time.process_time() - started
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        selection = Selection(Shares(rows=0.1, functions=0.05))
        reader = read(file, "glaive")
        kept = sum(1 for _ in selection.sort(reader))
        taken = time.process_time() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        size = file.stat().st_size / 2**20
    print(f"{rows:,} rows, {size:.0f} MiB: {kept:,} kept, {reader.counts.refused} refused")
    print(f"json.loads alone   {baseline:7.1f} s of one core")
    print(
        f"read and split     {taken:7.1f} s of one core ({taken / baseline:.1f} times the baseline)"
    )
    print(f"memory on top      {grown:7.0f} MiB")
    print(f"allowed            {SECONDS:7.1f} s and {MEBIBYTES} MiB for {ROWS:,} rows")


def lines(like: Path | None) -> Iterator[str]:
    """Rows without end, no two alike."""
    if like:
        rows = [json.loads(line) for line in like.read_text(encoding="utf-8").splitlines()]
    else:
        rows = [dict(write_row(row)) for row in conversations("train", 1000, 0)]
    for number, row in enumerate(cycle(rows)):
        chat = row["chat"].replace("USER: ", f"USER: ({number}) ", 1)
        yield json.dumps({**row, "chat": chat}) + "\n"


if __name__ == "__main__":
    main()
