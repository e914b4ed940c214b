"""`data inspect` and `data report`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from train.base import BaseModel
from train.data.cli import app
from train.data.errors import DOUBT_MEANS, DOUBTS, REASON_MEANS, REASONS

CALL = {"name": "f", "arguments": {"city": "Oslo 東京"}}
GOOD = {
    "conversations": [
        {"from": "human", "value": "Oslo?"},
        {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "blue [bold]sky[/bold]"},
        {"from": "gpt", "value": "Blue."},
    ],
    "tools": '[{"name": "f"}]',
}
BAD = {"conversations": [{"from": "human", "value": "u"}, {"from": "function_call", "value": "?"}]}
DOUBTFUL = {**GOOD, "tools": "[]"}


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(GOOD), json.dumps(BAD), "{", json.dumps(DOUBTFUL)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments), env={"NO_COLOR": "1", "COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done.output


def inspect(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("inspect", *arguments, "--json"))
    return found


def test_a_row_through_every_stage(data: str, embedded_base: BaseModel) -> None:
    found = inspect(data, "--base", embedded_base.source)
    assert (found["status"], found["format"], found["kind"]) == ("read", "sharegpt", "one-call")
    assert json.loads(found["raw"]) == GOOD
    assert found["conversation"]["messages"][1]["tool_calls"] == [CALL]
    trained = "".join(token["text"] for token in found["tokens"] if token["trained"])
    assert trained.endswith("Blue.<|im_end|>")
    assert '{"name": "f", "arguments": {"city": "Oslo' in trained
    assert "blue" not in trained
    assert found["trained_tokens"] == sum(token["trained"] for token in found["tokens"])
    assert "Oslo?" in found["rendered"]


def test_trained_tokens_are_marked_where_there_are_no_colours(
    data: str, embedded_base: BaseModel
) -> None:
    shown = run("inspect", data, "--base", embedded_base.source)
    assert "⟦Blue.<|im_end|>⟧" in shown
    assert "東京" in shown
    assert "blue [bold]sky[/bold]" in shown, "text of a row is no markup"


def test_a_row_that_a_run_leaves_out_is_shown_so(tmp_path: Path, embedded_base: BaseModel) -> None:
    turns = [{"from": "human", "value": "a <|im_end|> b"}, {"from": "gpt", "value": "Hi"}]
    long = [{"from": "human", "value": "word " * 2000}, {"from": "gpt", "value": "Hi"}]
    path = tmp_path / "rows.jsonl"
    rows = [{**GOOD, "conversations": kept} for kept in (turns, long)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = inspect(str(path), "--base", embedded_base.source)
    assert found["dropped"] == "control-token: a text holds <|im_end|>"
    assert found["trained_tokens"] == 0
    shown = run("inspect", str(path), "--row", "2", "--base", embedded_base.source)
    assert "left out of training: too-long: " in shown


def test_why_a_row_is_refused(data: str) -> None:
    found = inspect(data, "--row", "2")
    assert (found["status"], found["reason"]) == ("refused", "call")
    assert found["means"] == REASON_MEANS["call"]
    shown = run("inspect", data, "--row", "2")
    assert "refused: call: " in shown
    assert inspect(data, "--row", "3")["reason"] == "json"


def test_a_doubt_is_explained(data: str) -> None:
    found = inspect(data, "--row", "4", "--no-tokens")
    assert found["status"] == "doubtful"
    assert [doubt["kind"] for doubt in found["doubts"]] == ["unknown-function"]
    assert "keep_doubtful" in run("inspect", data, "--row", "4", "--no-tokens")


def test_a_forced_format_shows_what_is_wrong_with_it(data: str) -> None:
    found = inspect(data, "--format", "glaive")
    assert (found["status"], found["reason"]) == ("refused", "columns")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("inspect", "missing.jsonl"), 1, "no such file"),
        (("inspect", "DATA", "--row", "9"), 1, "no row 9; the nearest before it is 4"),
        (("inspect", "DATA", "--format", "csv"), 2, "data_format"),
        (("inspect", "DATA", "--profile", "nope"), 2, "unknown profile"),
        (("inspect", "DATA", "--template", "nope"), 2, "template"),
        (("report", "DATA", "--no-tokens", "--html", "/nowhere/x.html"), 1, "cannot be written"),
    ],
)
def test_errors(data: str, arguments: tuple[str, ...], code: int, message: str) -> None:
    output = run(*(data if word == "DATA" else word for word in arguments), code=code)
    assert message in output


def test_report(data: str, tmp_path: Path, embedded_base: BaseModel) -> None:
    html, rejects = tmp_path / "report.html", tmp_path / "rejects.jsonl"
    base = ("--base", embedded_base.source)
    shown = run("report", data, *base, "--html", str(html), "--rejects", str(rejects))
    assert "Trained" not in shown
    assert "Kinds" in shown
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len(rejects.read_text(encoding="utf-8").splitlines()) == 3
    made = json.loads(run("report", data, *base, "--json"))
    assert made["rows"]["rejects"] == {"call": 1, "json": 1}
    assert made["rows"]["left_out"] == {"unknown-function": 1}
    assert made["tokens"] is None or 0 < made["tokens"]["trained"] < made["tokens"]["total"]


def test_every_reason_is_explained() -> None:
    assert REASON_MEANS.keys() == set(REASONS)
    assert DOUBT_MEANS.keys() == set(DOUBTS)


def test_help_shows_an_example() -> None:
    assert "Example: data inspect" in run("inspect", "--help")
    assert "Example: data report" in run("report", "--help")
