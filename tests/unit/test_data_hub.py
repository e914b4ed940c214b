"""Tables: Parquet files, and folders and hub ids through `datasets`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from train.config import load_config
from train.data import DataError, Reader, Source, load
from train.data.hub import is_hub_id
from train.data.rows import load_rows


def xlam(number: int) -> dict[str, Any]:
    return {
        "query": f"question {number}",
        "tools": '[{"name": "f", "parameters": {"i": {"type": "int"}}}]',
        "answers": json.dumps([{"name": "f", "arguments": {"i": number}}]),
    }


ROWS = [xlam(number) for number in range(600)]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def expected(tmp_path: Path) -> tuple[Any, ...]:
    return load(lines(tmp_path / "expected.jsonl", ROWS)).conversations


def test_parquet_is_the_same_data(tmp_path: Path, expected: tuple[Any, ...]) -> None:
    loaded = load(parquet(tmp_path / "rows.parquet", ROWS))
    assert loaded.conversations == expected
    assert [row.number for row in loaded.rows][:2] == [1, 2]
    assert loaded.format == "xlam"


def test_a_field_that_only_other_rows_have_is_not_there(tmp_path: Path) -> None:
    """A table gives every record all fields of all records."""
    user, answer = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
    call = {"id": "1", "function": {"name": "f", "arguments": '{"a": null}'}}
    takes_a = {"type": "object", "properties": {"a": {"type": "string"}}}
    takes_b = {"type": "object", "properties": {"b": {"type": "string"}}}
    rows: list[dict[str, Any]] = [
        {"messages": [user, answer], "tools": None},
        {
            "messages": [user, {"role": "assistant", "tool_calls": [call]}],
            "tools": [{"name": "f", "parameters": takes_a}],
        },
        {"messages": [answer], "tools": [{"name": "g", "parameters": takes_b}]},
    ]
    path = parquet(tmp_path / "rows.parquet", rows)
    loaded = load(path)
    assert loaded.conversations[1].messages[1].tool_calls[0].arguments == {"a": None}
    assert loaded.conversations[2].tools[0].parameters == takes_b
    assert not any(row.doubts for row in loaded.rows)


def test_a_parquet_reject_shows_its_row(tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.jsonl"
    path = parquet(tmp_path / "rows.parquet", [ROWS[0], {**ROWS[1], "answers": "?"}])
    assert load(path, max_rejects=0.5, reject_file=rejects).counts.rejects == {"call": 1}
    written = json.loads(rejects.read_text(encoding="utf-8"))
    assert written["number"] == 2
    assert json.loads(written["raw"])["query"] == "question 1"


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "saved"])
def test_a_folder_through_datasets(kind: str, tmp_path: Path, expected: tuple[Any, ...]) -> None:
    folder = tmp_path / "rows"
    if kind == "saved":
        datasets.Dataset.from_list(ROWS).save_to_disk(str(folder))
    elif kind == "parquet":
        parquet(folder / "train-00000-of-00001.parquet", ROWS)
        parquet(folder / "test-00000-of-00001.parquet", ROWS[:3])
    else:
        lines(folder / "train.jsonl", ROWS)
        lines(folder / "test.jsonl", ROWS[:3])
    reader = Reader(Source(folder))
    assert tuple(row.conversation for row in reader) == expected
    assert reader.revision() == reader.sha256[:12]
    again = Reader(Source(folder))
    assert [row.number for row in again] == list(range(1, 601))
    assert again.sha256 == reader.sha256
    if kind != "saved":
        assert len(list(Reader(Source(folder, split="test")))) == 3
        with pytest.raises(DataError, match="split 'nope'"):
            list(Reader(Source(folder, split="nope")))


def test_a_run_on_a_folder(tmp_path: Path) -> None:
    parquet(tmp_path / "rows" / "train.parquet", ROWS)
    config = load_config(
        "smollm2-135m", overrides={"data": str(tmp_path / "rows"), "max_samples": 1000}
    )
    rows = load_rows(config)
    assert rows.dataset.name == "rows"
    assert len(rows.train) + len(rows.held_out["seen"]) == 600


@pytest.mark.parametrize(
    ("name", "hub"),
    [
        ("glaiveai/glaive-function-calling-v2", True),
        ("org/name.with.dots", True),
        ("rows.jsonl", False),
        ("data/rows.jsonl", False),
        ("data/rows.parquet", False),
        ("./data", False),
        ("/data/rows", False),
        ("a/b/c", False),
    ],
)
def test_what_is_a_hub_id(name: str, hub: bool) -> None:
    assert is_hub_id(name) == hub


def test_a_folder_without_data_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Check"):
        list(Reader(Source(tmp_path)))


def test_a_hub_that_cannot_be_reached_is_a_clear_error() -> None:
    """In a process of its own: the hub's client reads its environment once, when imported."""
    done = subprocess.run(
        [sys.executable, "-c", "from train.data.cli import main; main()", "report", "org/name"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    # The first run on a machine prepares the embedded base before, and shows its progress.
    said = done.stderr.splitlines()[-1]
    assert said.startswith("error: org/name at revision main: the hub cannot be reached")
    assert "HF_HUB_OFFLINE" in done.stderr
    assert "Traceback" not in done.stderr
