"""Which layout a data set has, and what is said when it has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from train.data import DataError, Format, detect, load, read

GLAIVE = {
    "system": "SYSTEM: You are a helpful assistant, with no access to external functions.",
    "chat": "USER: u\n\n\nASSISTANT: a <|endoftext|>",
}
OPENAI = {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}
PLAIN = {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}
CALL = '{"name": "f", "arguments": {}}'
SHAREGPT = {
    "conversations": [{"from": "human", "value": "u"}, {"from": "function_call", "value": CALL}],
    "tools": '[{"name": "f"}]',
}
HERMES = {
    "conversations": [
        {"from": "human", "value": "u"},
        {"from": "gpt", "value": f"<tool_call>{CALL}</tool_call>"},
    ],
    "tools": '[{"name": "f"}]',
}
XLAM = {"query": "u", "tools": '[{"name": "f"}]', "answers": f"[{CALL}]"}


@pytest.mark.parametrize(
    ("format", "rows"),
    [
        ("glaive", [GLAIVE]),
        ("openai", [OPENAI]),
        ("openai", [{"conversations": OPENAI["messages"]}]),
        ("sharegpt", [PLAIN]),
        ("sharegpt", [PLAIN, SHAREGPT, PLAIN]),
        ("hermes", [PLAIN, HERMES, PLAIN]),
        ("hermes", [{"messages": HERMES["conversations"]}]),
        ("xlam", [XLAM]),
        ("glaive", [{}, {"chat": 1}, GLAIVE, {"other": 1}]),
    ],
)
def test_detection(format: Format, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    assert detect("data", rows) == format
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded = load(path, max_rejects=0.9)
    assert loaded.format == format
    assert loaded.counts.rows == len(rows)


def test_rows_of_no_known_format_are_described() -> None:
    with pytest.raises(DataError) as caught:
        detect("data", [{"instruction": "a", "output": 1}])
    message = str(caught.value)
    assert "data: the rows fit no known format" in message
    assert "instruction (str), output (int)" in message
    assert all(f"\n  {name}: " in message for name in ("glaive", "openai", "hermes", "xlam"))


@pytest.mark.parametrize("rows", [[GLAIVE, OPENAI], [SHAREGPT, HERMES], [PLAIN, OPENAI]])
def test_a_mixture_is_not_guessed_at(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError, match="more than one format"):
        detect("data", rows)


def test_a_forced_format_counts_the_others_as_rejects(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GLAIVE) + "\n" + json.dumps(OPENAI) + "\n", encoding="utf-8")
    loaded = load(path, "openai", max_rejects=0.5)
    assert loaded.counts.rejects == {"columns": 1}
    with pytest.raises(DataError, match="read as openai"):
        load(path, "openai")


def test_hermes_calls_late_in_a_file_of_plain_rows_are_not_taken_for_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [PLAIN] * 60 + [HERMES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded = load(path)
    assert (loaded.format, loaded.counts.rejects) == ("sharegpt", {"call": 1})


def test_the_stream_tells_what_it_met(tmp_path: Path) -> None:
    path, rejects = tmp_path / "rows.jsonl", tmp_path / "rejects.jsonl"
    doubtful = {**XLAM, "tools": "[]"}
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in (XLAM, doubtful, {**XLAM, "answers": "?"})),
        encoding="utf-8",
    )
    reader = read(path, max_rejects=0.5, reject_file=rejects)
    rows = list(reader)
    assert [row.number for row in rows] == [1, 2]
    assert [doubt.kind for doubt in rows[1].doubts] == ["unknown-function"]
    counts = reader.counts
    assert (counts.rows, counts.read, counts.refused, counts.doubtful) == (3, 2, 1, 1)
    written = [json.loads(line) for line in rejects.read_text(encoding="utf-8").splitlines()]
    assert [(entry["number"], entry["reason"], entry["refused"]) for entry in written] == [
        (2, "unknown-function", False),
        (3, "call", True),
    ]
