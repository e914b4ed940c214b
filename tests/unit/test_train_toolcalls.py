"""Reading calls out of generated text, whatever the model made of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.messages import ToolCall
from train.toolcalls import Answer, parse_hermes


def call(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


F = call('{"name": "f", "arguments": {"a": 1}}')
READ_F = ToolCall(name="f", arguments={"a": 1})


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Hello.", Answer("Hello.", (), True)),
        ("", Answer("", (), True)),
        (F, Answer("", (READ_F,), True)),
        (f"{F}\n{F}", Answer("", (READ_F, READ_F), True)),
        (f"Let me look.\n{F}", Answer("Let me look.", (READ_F,), True)),
        # Loose spacing and key order, as other models write.
        ('<tool_call>{"arguments":{"a":1},"name":"f"}</tool_call>', Answer("", (READ_F,), True)),
        # Generation may end before the closing mark.
        (F.removesuffix("</tool_call>"), Answer("", (READ_F,), True)),
    ],
)
def test_readable_answers(text: str, answer: Answer) -> None:
    assert parse_hermes(text) == answer


@pytest.mark.parametrize(
    "body",
    [
        "",
        "f(a=1)",
        "[]",
        "3",
        "null",
        '"f"',
        "{}",
        '{"name": "f"}',
        '{"arguments": {}}',
        '{"name": 1, "arguments": {}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "{}"}',
        '{"name": "f", "arguments": {"a": 1}',
        "{'name': 'f', 'arguments': {}}",
        '{"name": "f", "arguments": {}} and more',
        "[" * 100_000,
    ],
)
def test_an_unreadable_call_is_left_out_and_told(body: str) -> None:
    assert parse_hermes(f"{call(body)}\n{F}") == Answer("", (READ_F,), False)


@given(
    st.lists(st.sampled_from(["<tool_call>", "</tool_call>", "{", "}", '"name"', ":", "x", " "]))
)
def test_any_text_gives_an_answer(pieces: list[str]) -> None:
    answer = parse_hermes("".join(pieces))
    assert "<tool_call>" not in answer.content
