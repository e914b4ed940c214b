"""The data report: its figures, and the page that shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from train.config import load_config
from train.data import Conversation, Message, Tool, ToolCall
from train.data.census import Kind, Trait, kind, traits
from train.data.page import page, sections
from train.data.report import DataReport, percentile, token_facts
from train.data.rows import load_rows
from train.data.survey import run_report, survey
from train.encode import Encoded
from train.tokens import EncodedRows

F = Tool(name="f")
CALL, OTHER = ToolCall(name="f", arguments={"a": 1}), ToolCall(name="f")


def user(text: str = "u") -> Message:
    return Message(role="user", content=text)


def says(text: str = "", *calls: ToolCall) -> Message:
    return Message(role="assistant", content=text, tool_calls=calls)


def result(text: str = "{}") -> Message:
    return Message(role="tool", content=text)


def talk(*messages: Message, tools: tuple[Tool, ...] = (F,)) -> Conversation:
    return Conversation(messages=messages, tools=tools)


@pytest.mark.parametrize(
    ("wanted", "conversation"),
    [
        ("no-functions", talk(user(), says("a"), tools=())),
        ("no-call", talk(user(), says("a"))),
        ("one-call", talk(user(), says("", CALL), result(), says("a"))),
        ("several-calls", talk(user(), says("", CALL), result(), user(), says("", CALL))),
        ("chain", talk(user(), says("", CALL), result(), says("", CALL))),
        ("parallel", talk(user(), says("", CALL, CALL))),
    ],
)
def test_kinds(wanted: Kind, conversation: Conversation) -> None:
    assert kind(conversation) == wanted


@pytest.mark.parametrize(
    ("trait", "conversation"),
    [
        ("asks-back", talk(user(), says("Which city?"))),
        ("refuses", talk(user(), says("I'm sorry, I can't do that."))),
        ("error-result", talk(user(), says("", CALL), result('{"error": "no"}'), says("a"))),
        ("error-result", talk(user(), says("", CALL), result('{"status": "Error"}'), says("a"))),
        ("text-and-call", talk(user(), says("Wait.", CALL), result(), says("a"))),
        ("no-arguments", talk(user(), says("", OTHER), result(), says("a"))),
        ("system-prompt", talk(Message(role="system", content="s"), user(), says("a"))),
        ("unanswered-call", talk(user(), says("", CALL))),
    ],
)
def test_traits(trait: Trait, conversation: Conversation) -> None:
    assert traits(conversation) == {trait}


def test_plain_talk_has_no_traits() -> None:
    assert traits(talk(user(), says("I'm sorry, what?"), tools=())) == set()
    assert traits(talk(user(), says("", CALL), result("[" * 9999), says("{"))) == set()


def test_token_facts() -> None:
    facts = token_facts([10, 20, 30], [5, 5, 5], {"too-long": 2}, 50)
    assert (facts.rows, facts.dropped, facts.total, facts.trained) == (3, {"too-long": 2}, 60, 15)
    assert facts.trained_share == 0.25
    assert (facts.percentiles["p50"], facts.percentiles["p100"]) == (20, 30)
    assert facts.packing.sequences == 2
    assert facts.packing.efficiency == 0.6
    assert facts.packing.unpacked_efficiency == round(60 / 90, 4)
    assert not facts.packing.used
    assert token_facts([10], [5], {}, 50, packed=True).packing.used


def test_percentiles() -> None:
    ordered = list(range(1, 101))
    assert [percentile(ordered, share) for share in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert [percentile([7], share) for share in (1, 100)] == [7, 7]


HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """40 rows of xLAM, of them 5 duplicates, 2 rejects and 1 with a doubt."""
    rows: list[dict[str, Any]] = [
        {
            "query": f"question {i}",
            "tools": json.dumps([{"name": f"f{i % 4}{HOSTILE}", "parameters": {}}]),
            "answers": json.dumps([{"name": f"f{i % 4}{HOSTILE}", "arguments": {"i": i}}]),
        }
        for i in range(32)
    ]
    rows += rows[:5]
    rows += [{**rows[0], "answers": "?"}] * 2 + [{**rows[0], "tools": "[]"}]
    path = tmp_path / f"rows{HOSTILE.replace('/', '')}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_rows_add_up(data: Path) -> None:
    config = load_config("smollm2-135m", overrides={"data": str(data), "held_out_functions": 0.3})
    made = survey(config)
    rows = made.rows
    assert (rows.total, rows.refused, rows.duplicates) == (40, 2, 5)
    assert (rows.rejects, rows.left_out) == ({"call": 2}, {"unknown-function": 1})
    assert rows.by_format == {"xlam": 38}
    assert rows.total == rows.refused + 1 + rows.duplicates + sum(rows.parts.values())
    assert made.kinds["one-call"] == sum(rows.parts.values()) == 32
    assert (made.functions.offered, made.functions.calls) == (4, 32)
    assert made.source.format == "xlam"
    assert made.tokens is None
    assert DataReport.model_validate_json(made.model_dump_json()) == made


def test_the_report_of_a_run_is_that_of_a_survey(data: Path) -> None:
    config = load_config(
        "smollm2-135m", overrides={"data": str(data), "held_out": 0.3, "max_samples": 1000}
    )
    rows = load_rows(config)
    encoded = EncodedRows.of([Encoded([1] * 100, [True] * 100)] * len(rows.train))
    made = run_report(rows, encoded, config.sequence_length)
    alone = survey(config)
    assert made.rows == alone.rows
    assert made.kinds == alone.kinds
    assert made.tokens is not None
    assert made.tokens.rows == rows.dataset.rows == made.rows.parts["train"]
    assert sum(map(len, rows.held_out.values())) == made.rows.parts["seen"]


def test_the_embedded_rows_are_reported_too() -> None:
    rows = load_rows(load_config("smollm2-135m", overrides={"max_samples": 30}))
    encoded = EncodedRows.of([Encoded([1] * 9, [False] * 6 + [True] * 3)] * 30)
    made = run_report(rows, encoded, 100)
    assert made.rows.parts == {"train": 30, "seen": 200, "unseen": 200}
    assert sum(made.kinds.values()) == made.rows.total == 430
    assert made.kinds["parallel"] > 0


def test_the_page_stands_alone_and_shows_all_figures(data: Path) -> None:
    config = load_config("smollm2-135m", overrides={"data": str(data)})
    made = survey(config)
    made = made.model_copy(update={"tokens": token_facts([10, 20], [5, 5], {}, 50)})
    html = page(made)
    assert "<script" not in html, "names from the data are text"
    assert not re.search(r"(?:src|href)=|url\(|@import", html)
    assert "prefers-color-scheme: dark" in html
    assert html.count("<table>") == html.count("</table>") == len(sections(made)) == 8
    for section in sections(made):
        assert section.title in html
        for line in section.lines:
            assert line.value in html
    assert "&lt;script&gt;" in html
