"""Reading calls out of generated text, whatever the model made of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.manifest import ToolFormat
from train.errors import TrainError
from train.messages import ToolCall
from train.template import KNOWN
from train.toolcalls import PARSERS, Answer, parse_hermes, parse_nemotron, parser_of

F = '{"name": "f", "arguments": {"a": 1}}'
G = '{"name": "g", "arguments": {}}'
READ_F = ToolCall(name="f", arguments={"a": 1})
READ_G = ToolCall(name="g", arguments={})


def call(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


def listed(body: str) -> str:
    return f"<TOOLCALL>[{body}]</TOOLCALL>"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Hello.\n", Answer("Hello.\n", (), True)),
        ("", Answer("", (), True)),
        (call(F), Answer("", (READ_F,), True)),
        (f"{call(F)}\n{call(G)}", Answer("", (READ_F, READ_G), True)),
        (f"Let me look.\n{call(F)}", Answer("Let me look.", (READ_F,), True)),
        # Loose spacing and key order, as other models write.
        ('<tool_call>{"arguments":{"a":1},"name":"f"}</tool_call>', Answer("", (READ_F,), True)),
        # Generation may end before the closing mark.
        (call(F).removesuffix("</tool_call>"), Answer("", (READ_F,), True)),
    ],
)
def test_hermes(text: str, answer: Answer) -> None:
    assert parse_hermes(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Hello.\n", Answer("Hello.\n", (), True)),
        ("", Answer("", (), True)),
        (listed(F), Answer("", (READ_F,), True)),
        (listed(f"{F}, {G}"), Answer("", (READ_F, READ_G), True)),
        (listed(F) + listed(G), Answer("", (READ_F, READ_G), True)),
        (f"Let me look.{listed(F)}", Answer("Let me look.", (READ_F,), True)),
        (f"Let me look.\n{listed(F)}\n", Answer("Let me look.", (READ_F,), True)),
        (listed(""), Answer("", (), True)),
        (listed(F).removesuffix("</TOOLCALL>"), Answer("", (READ_F,), True)),
        ('<TOOLCALL> [ {"arguments":{"a":1},"name":"f"} ] ', Answer("", (READ_F,), True)),
        # An end mark inside a string ends nothing.
        (
            listed('{"name": "f", "arguments": {"a": "]</TOOLCALL>"}}'),
            Answer("", (ToolCall(name="f", arguments={"a": "]</TOOLCALL>"}),), True),
        ),
    ],
)
def test_nemotron(text: str, answer: Answer) -> None:
    assert parse_nemotron(text) == answer


UNREADABLE = [
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
    '{"name": "f", "arguments": {"a": "\\ud800"}}',
    '{"name": "\\ud800", "arguments": {}}',
    "[" * 100_000,
]


@pytest.mark.parametrize("body", ["", *UNREADABLE])
def test_one_unreadable_call_makes_the_answer_text(body: str) -> None:
    text = f"{call(body)}\n{call(F)}"
    assert parse_hermes(text) == Answer(text, (), False)


@pytest.mark.parametrize("body", UNREADABLE)
def test_one_unreadable_list_makes_the_answer_text(body: str) -> None:
    for text in (listed(body) + listed(F), listed(f"{F}, {body}"), f"<TOOLCALL>{body}</TOOLCALL>"):
        if text != "<TOOLCALL>[]</TOOLCALL>":
            assert parse_nemotron(text) == Answer(text, (), False)


@given(st.sampled_from(list(PARSERS)), st.data())
def test_any_text_gives_an_answer(tool_format: ToolFormat, data: st.DataObject) -> None:
    parser = PARSERS[tool_format]
    pieces = [parser.begins, parser.ends, "{", "}", "[", "]", F, '"name"', ":", ",", "x", " ", "\n"]
    text = "".join(data.draw(st.lists(st.sampled_from(pieces))))
    answer = parser.parse(text)
    if not answer.well_formed or parser.begins not in text:
        assert (answer.content, answer.calls) == (text, ())
    else:
        assert text.startswith(answer.content)
        assert parser.begins not in answer.content


def test_the_parser_is_found_by_what_the_template_writes() -> None:
    for template in KNOWN.values():
        assert parser_of(template.source) is template.parser
    with pytest.raises(TrainError, match="none of the tool formats"):
        parser_of("{{ messages[0].content }}")
