"""Reading a file of rows: what is a row, what is counted as a reject, what stops the load."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data import DataError, RawRow, Reject, load
from train.data.files import file_rows
from train.data.glaive import write_row
from train.data.json_array import elements
from train.messages import Conversation, Message


def talk(text: str) -> Conversation:
    return Conversation(
        messages=(Message(role="user", content=text), Message(role="assistant", content="Yes."))
    )


def lines(*texts: str) -> str:
    return "".join(json.dumps(write_row(talk(text))) + "\n" for text in texts)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def rejects(path: Path) -> list[tuple[int, str]]:
    return [(row.number, row.reason) for row in file_rows(path) if isinstance(row, Reject)]


def test_load(data: Path) -> None:
    data.write_text(lines("a", "é 東京 🙂"), encoding="utf-8")
    loaded = load(data)
    assert loaded.conversations == (talk("a"), talk("é 東京 🙂"))
    assert [row.number for row in loaded.rows] == [1, 2]
    assert loaded.format == "glaive"
    assert (loaded.counts.rows, loaded.counts.refused) == (2, 0)
    assert loaded.sha256 == hashlib.sha256(data.read_bytes()).hexdigest()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_json_array_is_the_same_data(data: Path, indent: int | None, encoding: str) -> None:
    rows = [write_row(talk(text)) for text in ("a", "b")]
    data.write_text(json.dumps(rows, indent=indent), encoding=encoding)
    assert load(data).conversations == (talk("a"), talk("b"))
    assert [row.number for row in load(data).rows] == [1, 2]


def test_byte_order_mark_blank_lines_and_windows_line_ends(data: Path) -> None:
    text = "\n" + lines("a") + "\n  \n" + lines("b").rstrip("\n")
    data.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert load(data).conversations == (talk("a"), talk("b"))
    assert [row.number for row in load(data).rows] == [2, 5]


def test_rows_are_streamed(data: Path) -> None:
    """The first row is there before the file's broken end is reached."""
    data.write_text("[" + json.dumps({"a": "x" * 100}) + ", nonsense", encoding="utf-8")
    rows = file_rows(data)
    first = next(rows)
    assert isinstance(first, RawRow)
    assert first.data == {"a": "x" * 100}
    with pytest.raises(DataError, match="row 2 is not JSON"):
        next(rows)


def test_broken_lines_are_counted_with_their_number(data: Path) -> None:
    good = lines("a").encode()
    data.write_bytes(
        good + b'{"system": \n' + b"[1]\n" + b"\xff\xfe\n" + b"{} {}\n" + b"[" * 100_000 + b"\n"
    )
    assert rejects(data) == [
        (2, "json"),
        (3, "not-an-object"),
        (4, "encoding"),
        (5, "json"),
        (6, "json"),
    ]
    loaded = load(data, max_rejects=0.9)
    assert loaded.counts.rejects == {"json": 3, "encoding": 1, "not-an-object": 1}
    assert loaded.counts.rows == 6


def test_missing_columns_are_counted(data: Path) -> None:
    data.write_text(lines("a") + '{"messages": []}\n', encoding="utf-8")
    assert load(data, max_rejects=0.5).counts.rejects == {"columns": 1}


def test_too_many_rejects_stop_the_load_and_show_the_first(data: Path) -> None:
    bad = '{"system": "", "chat": "USER: u"}\n{"chat": ""}\n{\n{\n'
    data.write_text(lines(*"abcdef") + bad, encoding="utf-8")
    assert load(data, max_rejects=0.4).counts.rows == 10
    with pytest.raises(DataError) as caught:
        load(data, max_rejects=0.39)
    message = str(caught.value)
    assert f"{data}: 4 of 10 rows cannot be used" in message
    assert "row 7: nothing-to-learn: " in message
    assert "row 8: columns: column 'system' is missing" in message
    assert "row 9: json: " in message
    assert "row 10" not in message


def test_a_file_with_no_good_row_is_never_accepted(data: Path) -> None:
    data.write_text("{}\n", encoding="utf-8")
    with pytest.raises(DataError, match="1 of 1 rows cannot be used"):
        load(data, "glaive", max_rejects=1)
    with pytest.raises(DataError, match="fit no known format"):
        load(data, max_rejects=1)


def test_the_reject_file(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "rejects.jsonl"
    chat = "USER: " + "é" * 5000
    bad = json.dumps({"system": "", "chat": chat}, ensure_ascii=False)
    surrogate = json.dumps({"system": "", "chat": "\ud800"})
    data.write_text(bad + "\n" + surrogate + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"rejects\.jsonl"):
        load(data, reject_file=target)
    entries = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [(entry["number"], entry["reason"]) for entry in entries] == [
        (1, "nothing-to-learn"),
        (2, "columns"),
    ]
    assert entries[0].keys() == {"number", "reason", "detail", "raw", "refused"}
    assert all(entry["refused"] for entry in entries)
    assert entries[0]["raw"] == bad[:500]
    data.write_text(lines("a"), encoding="utf-8")
    load(data, reject_file=target)
    assert target.read_text(encoding="utf-8") == "", "rejects of an earlier load are gone"


def test_the_data_is_never_overwritten_by_its_rejects(data: Path) -> None:
    data.write_text(lines("a"), encoding="utf-8")
    with pytest.raises(DataError, match="name another"):
        load(data, reject_file=data.parent / "." / data.name)
    assert data.read_text(encoding="utf-8") == lines("a")


def test_a_reject_file_that_cannot_be_written(data: Path) -> None:
    data.write_text(lines("a"), encoding="utf-8")
    with pytest.raises(DataError, match="cannot write rejects"):
        load(data, reject_file=data.parent / "no" / "such" / "folder.jsonl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"[]", "empty"),
        (b"PAR1\x15\x04\x15\x00\x00binary", "not a readable Parquet file"),
        ('{"a": "b"}\n'.encode("utf-16"), "not a file of rows"),
        (b"just some words\n" * 20, "none of the first 20 rows"),
        (bytes(range(128, 256)) * 10, "not UTF-8"),
        (b"[", "row 1 is not JSON"),
        (b'[{"a": 1}', "no comma or ]"),
        (b'[{"a": 1} {"a": 2}]', "no comma or ]"),
        (b'[{"a": 1},]', "a comma but no row"),
        (b'[{"a": 1}, {"a": ]', "row 2 is not JSON"),
        (b'[{"a": 1}] {"a": 2}', "after the end of the array"),
        (b'[{"a": "\xff"}]', "utf-8"),
        (b'[{"a": 1}]\xc3', "utf-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_cannot_be_used(data: Path, content: bytes, message: str) -> None:
    data.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(data)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{data}: ")


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "missing.jsonl")
    with pytest.raises(DataError, match="a directory"):
        next(file_rows(tmp_path))
    with pytest.raises(DataError, match="no such file"):
        next(file_rows(tmp_path / "missing.jsonl"))


def test_a_line_without_end_is_not_read_into_memory(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.data.files.MAX_ROW", 1000)
    data.write_text(lines("a") + lines("b" * 2000), encoding="utf-8")
    with pytest.raises(DataError, match="line 2 is longer than 1,000 bytes"):
        load(data)


def test_the_share_is_a_share(data: Path) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        load(data, max_rejects=10)


VALUES: st.SearchStrategy[Any] = st.dictionaries(
    st.text(max_size=5), st.text(max_size=30) | st.lists(st.integers(), max_size=4), max_size=3
)


@given(st.lists(VALUES, max_size=6), st.integers(1, 20), st.sampled_from([None, 1]))
def test_array_elements_whatever_the_chunk(rows: list[Any], chunk: int, indent: int | None) -> None:
    for ascii_only in (True, False):
        text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
        found = list(elements(io.BytesIO(text.encode()), max_element=10_000, chunk=chunk))
        assert [value for value, _ in found] == rows
        assert [json.loads(raw) for _, raw in found] == rows


def test_an_element_that_is_too_long_is_refused() -> None:
    text = json.dumps(["x" * 1000])
    with pytest.raises(ValueError, match="row 1 is not JSON"):
        list(elements(io.BytesIO(text.encode()), max_element=100, chunk=10))


@given(st.binary(max_size=200), st.sampled_from([b"", b"[", b'[{"a": 1},', b"{}\n"]))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, start: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "junk"
    path.write_bytes(start + junk)
    with pytest.raises(DataError):
        load(path)
