"""What docs/training.md says about data holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from train.config import TrainConfig
from train.data import FORMATS, Format, parse_row, read
from train.data.errors import DOUBT_MEANS, REASON_MEANS
from train.data.formats import fitting
from train.encode import Drop
from train.template import KNOWN

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("format", FORMATS)
def test_the_example_rows_are_read(format: Format) -> None:
    (block,) = re.findall(rf"```json {format}\n(.*?)```", TEXT, re.DOTALL)
    row = json.loads(block)
    assert fitting(row) == {format}
    reading = parse_row(row, format)
    assert not reading.doubts
    (call,) = [call for message in reading.conversation.messages for call in message.tool_calls]
    assert call.name == "get_time"
    assert [tool.name for tool in reading.conversation.tools] == ["get_time"]
    assert reading.conversation.messages[0].role == "user"


def test_all_reasons_and_doubts_are_listed_as_the_command_explains_them() -> None:
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", TEXT, re.MULTILINE))
    for kind, means in DOUBT_MEANS.items():
        assert f"| `{kind}` | {means} |" in TEXT
    for reason, means in REASON_MEANS.items():
        assert reason == "inexpressible" or f"| `{reason}` | {means} |" in TEXT
    drops = get_args(Drop)
    assert all(f"| `{reason}` |" in TEXT for reason in drops)
    known = {*REASON_MEANS, *DOUBT_MEANS, *FORMATS, *TrainConfig.model_fields, *drops, *KNOWN}
    assert not listed.keys() - known, "nothing is listed that is no more"


def test_the_settings_are_the_configurations() -> None:
    for name, default in re.findall(r"^\| `(max_rejects|held_out\w*)` \| ([\d.]+) ", TEXT, re.M):
        assert TrainConfig.model_fields[name].default == float(default)
    for name in ("data_format", "data_revision", "data_subset", "data_split", "keep_doubtful"):
        assert f"`{name}`" in TEXT
        assert name in TrainConfig.model_fields


def test_the_library_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (row,) = re.findall(r"```json openai\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(json.loads(row)) + "\n", encoding="utf-8")
    assert len(list(read(path))) == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/training.md", "exec"), {})
    assert "It is half past nine." in capsys.readouterr().out
