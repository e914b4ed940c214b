"""Coverage-guided fuzzing of all readers; docs/training.md says how to run it.

Each input is a choice of layout and a text: a row as JSON, or texts that replace those of a good
row. Anything but a conversation or a RowError is a finding, and so is a row that takes seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["train.data"]):
    from train.data import FORMATS, REASONS, Format, Reading, RowError, parse_row
    from train.data.census import kind, traits
    from train.data.formats import fitting
    from train.data.split import fingerprint

from tests.data_rows import GOOD

SLOW = 2.0  # seconds for one row of a few thousand characters


def replaced(value: Any, texts: atheris.FuzzedDataProvider) -> Any:
    """The value with some of its texts bent."""
    if isinstance(value, dict):
        return {key: replaced(each, texts) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, texts) for each in value if texts.ConsumeIntInRange(0, 15)]
    if not isinstance(value, str) or texts.ConsumeIntInRange(0, 3):
        return value
    at = texts.ConsumeIntInRange(0, len(value))
    to = texts.ConsumeIntInRange(at, len(value))
    return value[:at] + texts.ConsumeUnicode(texts.ConsumeIntInRange(0, 40)) + value[to:]


def row_of(texts: atheris.FuzzedDataProvider, format: Format) -> dict[str, Any] | None:
    """A row from the fuzzer's bytes; None where they are no row."""
    if texts.ConsumeBool():
        row: dict[str, Any] = replaced(GOOD[format], texts)
        return row
    try:
        row = json.loads(texts.ConsumeUnicode(texts.remaining_bytes()), strict=False)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def outcome(row: dict[str, Any], format: Format) -> Reading | RowError:
    """What the reader makes of the row."""
    try:
        return parse_row(row, format)
    except RowError as error:
        return error


def one(data: bytes) -> None:
    """One input; raises for a finding."""
    texts = atheris.FuzzedDataProvider(data)
    format = FORMATS[texts.ConsumeIntInRange(0, len(FORMATS) - 1)]
    row = row_of(texts, format)
    if row is None:
        return
    started = time.monotonic()
    fitting(row)
    reading = outcome(row, format)
    if isinstance(reading, RowError):
        assert reading.reason in REASONS, reading.reason
        assert str(reading).isprintable(), str(reading)
    else:
        conversation = reading.conversation
        text = conversation.model_dump_json()
        assert type(conversation).model_validate_json(text) == conversation
        fingerprint(conversation)
        kind(conversation)
        traits(conversation)
        json.dumps([message.openai() for message in conversation.messages], allow_nan=False)
    assert time.monotonic() - started < SLOW, "too slow"


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
