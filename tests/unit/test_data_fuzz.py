"""Whatever a row holds, it is read or it is refused with a reason; no reader ever crashes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data_rows import GOOD, NAMES, ROLES, SIGNS
from train.data import (
    FORMATS,
    REASONS,
    DataError,
    Format,
    Reading,
    RowError,
    detect,
    parse_row,
    read,
)
from train.data.census import KINDS, kind, traits
from train.data.files import RawRow
from train.data.formats import fitting
from train.data.page import page
from train.data.report import SourceFacts, build
from train.data.split import PARTS, Selection, Shares, fingerprint, part

TEXT = st.lists(st.sampled_from(SIGNS) | st.text(max_size=4), max_size=8).map("".join)
KEY = st.sampled_from(NAMES) | TEXT
# st.text() holds no halves of surrogate pairs; SIGNS does. JSON decoders give NaN and infinity.
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(ROLES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=4),
    max_leaves=12,
)
ROW = st.dictionaries(KEY, VALUE, max_size=5)


@st.composite
def bent(draw: st.DrawFn, format: Format) -> dict[str, Any]:
    """A good row with one to four things in it replaced, removed, doubled or cut."""
    row: dict[str, Any] = json.loads(json.dumps(GOOD[format]))
    for _ in range(draw(st.integers(1, 4))):
        holder: Any = row
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inside = holder[key]
            if isinstance(inside, dict | list) and draw(st.integers(0, 3)):
                holder = inside
                continue
            change = draw(st.integers(0, 3))
            if change == 0:
                holder[key] = draw(VALUE)
            elif change == 1:
                del holder[key]
            elif change == 2 and isinstance(holder, list):
                holder.insert(draw(st.integers(0, len(holder))), inside)
            elif isinstance(inside, str):
                at = draw(st.integers(0, len(inside)))
                to = draw(st.integers(at, min(len(inside), at + 20)))
                holder[key] = inside[:at] + draw(TEXT) + inside[to:]
            else:
                holder[key] = draw(VALUE)
            break
    return row


def outcome(row: dict[str, Any], format: Format) -> Reading | RowError:
    try:
        return parse_row(row, format)
    except RowError as error:
        return error


def holds(row: dict[str, Any], format: Format) -> None:
    """What must hold for any row."""
    fitting(row)
    reading = outcome(row, format)
    if isinstance(reading, RowError):
        assert reading.reason in REASONS
        assert str(reading).isprintable()
        assert len(str(reading)) < 600
        return
    conversation = reading.conversation
    assert any(message.role == "assistant" for message in conversation.messages)
    # What comes out can be written, hashed, counted and rendered.
    text = conversation.model_dump_json()
    assert type(conversation).model_validate_json(text) == conversation
    assert len(fingerprint(conversation)) == 16
    assert part(conversation, Shares(0.5, 0.5)) in PARTS
    assert kind(conversation) in KINDS
    assert traits(conversation) is not None
    assert all(str(doubt).isprintable() and len(str(doubt)) < 600 for doubt in reading.doubts)
    json.dumps([tool.openai() for tool in conversation.tools], allow_nan=False)
    json.dumps([message.openai() for message in conversation.messages], allow_nan=False)


@pytest.mark.parametrize("format", FORMATS)
def test_the_good_rows_are_good(format: Format) -> None:
    assert fitting(GOOD[format]) == {format}
    reading = parse_row(GOOD[format], format)
    assert not reading.doubts
    called = [call for message in reading.conversation.messages for call in message.tool_calls]
    assert len(called) == 2
    assert called[0] == called[1]
    assert called[0].arguments == {"city": "Coeur d'Alene", "days": [1, {"a": None}]}


@given(ROW, st.sampled_from(FORMATS))
def test_any_row(row: dict[str, Any], format: Format) -> None:
    holds(row, format)


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
def test_bent_rows(format: Format, data: st.DataObject) -> None:
    row = data.draw(bent(format))
    before = json.dumps(row)
    holds(row, format)
    assert json.dumps(row) == before, "a reader leaves the row as it was"


@given(st.lists(ROW, max_size=5))
def test_detection_of_any_rows(rows: list[dict[str, Any]]) -> None:
    found = None
    with contextlib.suppress(DataError):
        found = detect("data", rows)
    assert found in (None, *FORMATS)
    assert found or not any(fitting(row) for row in rows) or len(rows) > 1


LINE = ROW.map(json.dumps) | st.sampled_from([json.dumps(row) for row in GOOD.values()]) | TEXT


@given(st.lists(LINE, max_size=8), st.sampled_from([None, *FORMATS]))
def test_any_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], format: Format | None
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path, rejects = folder / "any.jsonl", folder / "any-rejects.jsonl"
    content = "\n".join(line.replace("\n", " ") for line in lines)
    path.write_bytes(content.encode(errors="surrogatepass"))
    reader = read(path, format or "auto", max_rejects=1, reject_file=rejects)
    selection = Selection(Shares(0.5, 0.5))
    refused = False
    try:
        used = sum(1 for _ in selection.sort(reader))
    except DataError:
        refused = True
    counts = reader.counts
    if refused:
        assert not counts.read, "with all rejects allowed, one good row is enough"
        return
    assert counts.read == used + selection.duplicates + selection.left_out.total()
    written = rejects.read_text(encoding="utf-8").splitlines()
    assert len(written) == counts.refused + counts.doubtful
    assert all(json.loads(line)["number"] >= 1 for line in written)


def test_a_raw_row_of_a_table_always_has_a_text() -> None:
    assert json.loads(RawRow(1, {"a": b"bytes", "b": Path("x")}).raw) == {"a": "b'bytes'", "b": "x"}


@given(TEXT, st.dictionaries(TEXT, st.integers(0, 10), max_size=3))
def test_any_names_make_a_page(name: str, called: dict[str, int]) -> None:
    from train.data.census import Census
    from train.data.reading import Counts

    census = Census(conversations=1)
    census.called.update(called)
    facts = SourceFacts(name=name, format="xlam", revision="r", sha256="0")
    html = page(build(facts, Counts(), Selection(Shares()), census))
    assert "<tool_call>" not in html
