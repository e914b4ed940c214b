"""Glaive rows by hand, one quirk each, and the round trip as a property."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from train.data.errors import REASONS, Doubt, RowError
from train.data.glaive import CALL, END, parse_row, write_row
from train.data.turns import Reading
from train.messages import Conversation, Message, Tool, ToolCall

F = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
NONE = "SYSTEM: You are a helpful assistant, with no access to external functions.\n"


def system(*functions: dict[str, Any], between: str = "\n\n") -> str:
    sentence = (
        "SYSTEM: You are a helpful assistant with access to the following functions. "
        "Use them if required -\n"
    )
    return sentence + between.join(json.dumps(f, indent=4) for f in functions) + "\n"


def chat(*turns: str) -> str:
    return "\n\n\n".join(turns) + "\n\n\n\n"


def read(*turns: str, functions: tuple[dict[str, Any], ...] = (F,)) -> tuple[Message, ...]:
    reading = parse_row({"system": system(*functions), "chat": chat(*turns)})
    assert not reading.doubts
    return reading.conversation.messages


def read_turns(*turns: str) -> Reading:
    return parse_row({"system": system(F), "chat": chat(*turns)})


def read_call(text: str) -> ToolCall:
    (call,) = read("USER: u", f"ASSISTANT: {CALL} {text} {END}")[-1].tool_calls
    return call


def refused(row: dict[str, Any]) -> RowError:
    with pytest.raises(RowError) as caught:
        parse_row(row)
    assert caught.value.reason in REASONS
    return caught.value


def refused_turns(*turns: str) -> RowError:
    return refused({"system": system(F), "chat": chat(*turns)})


def test_a_whole_row() -> None:
    reading = parse_row(
        {
            "system": system(F),
            "chat": chat(
                "USER: What's up?",
                f'ASSISTANT: {CALL} {{"name": "f", "arguments": \'{{"a": 1}}\'}} {END}',
                'FUNCTION RESPONSE: {"up": "sky"}',
                f"ASSISTANT: The sky. {END}",
            ),
        }
    )
    assert not reading.doubts
    assert reading.conversation == Conversation(
        tools=(Tool(name="f", description="d"),),
        messages=(
            Message(role="user", content="What's up?"),
            Message(role="assistant", tool_calls=(ToolCall(name="f", arguments={"a": 1}),)),
            Message(role="tool", content='{"up": "sky"}'),
            Message(role="assistant", content="The sky."),
        ),
    )


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("""{"name": "f", "arguments": '{"a": "it's Bob's"}'}""", {"a": "it's Bob's"}),
        (r"""{"name": "f", "arguments": '{"a": "it\'s"}'}""", {"a": "it's"}),
        (r"""{"name": "f", "arguments": '{"a": "back\\' it\'s"}'}""", {"a": "back\\' it's"}),
        (r"""{"name": "f", "arguments": '{"a": "say \"hi\""}'}""", {"a": 'say "hi"'}),
        ("""{"name": "f", "arguments": '{"a": "}'} {'"}'}""", {"a": "}'} {'"}),
        ("""{"name": "f", "arguments": '{"a": {"b": [1, {"c": null}]}}'}""",
         {"a": {"b": [1, {"c": None}]}}),
        ("""{"name": "f", "arguments": '{"a": "one\ntwo"}'}""", {"a": "one\ntwo"}),
        (r"""{"name": "f", "arguments": '{"a": "one\ntwo"}'}""", {"a": "one\ntwo"}),
        ("""{"name": "f", "arguments": '{\n  "a": 1\n}'\n}""", {"a": 1}),
        ("""{"name": "f", "arguments": {"a": "it's"}}""", {"a": "it's"}),
        (r"""{"name": "f", "arguments": "{\"a\": 1}"}""", {"a": 1}),
        ("""{"arguments": {"a": 1}, "name": "f"}""", {"a": 1}),
        ("""{"name": "f", "arguments": '{}'}""", {}),
        ("""{"name": "f", "arguments": ''}""", {}),
        ("""{"name": "f", "arguments": ""}""", {}),
        ("""{"arguments": '{"a": "it's"}', "name": "f"}""", {"a": "it's"}),
        ("""{"name": "f", "arguments": ' {"a": 1} '}</functioncall>""", {"a": 1}),
        ("""{'name': 'f', 'arguments': {'a': True, 'b': None}}""", {"a": True, "b": None}),
        (r"""{"name": "f", "arguments": "{'a': \"it's\"}"}""", {"a": "it's"}),
        ("""{"name": "f", "arguments": '{"name": "g", "arguments": "x"}'}""",
         {"name": "g", "arguments": "x"}),
        ("""{"name": "f", "arguments": '{"a": "Ünïcode 東京 🙂"}'}""", {"a": "Ünïcode 東京 🙂"}),
    ],
)  # fmt: skip
def test_arguments(text: str, arguments: dict[str, Any]) -> None:
    assert read_call(text) == ToolCall(name="f", arguments=arguments)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f(a=1)",
        "{",
        '{"name": "f"}',
        '{"name": "f", "arguments": null}',
        '{"name": "f", "arguments": "text"}',
        '{"name": "f", "arguments": [1]}',
        '{"name": 1, "arguments": {}}',
        '{"name": "f", "arguments": {}, "id": 1}',
        '{"name": "f", "arguments": {}} and more',
        """{"name": "f", "arguments": '{'a': 1}'}""",
        """{'name': 'f', 'arguments': {'a': 'it''s'}}""",
        """{'name': 'f', 'arguments': {'a': (1, 2)}}""",
        """{'name': 'f', 'arguments': {'a': __import__('os')}}""",
        """{"name": "f", "arguments": '{"a": }'}""",
        """{"name": "f", "arguments": '{"a": 1}' """,
        """{"name": "f", "arguments": '{"a": NaN}'}""",
        """{"name": "f", "arguments": '{"a": 1e999}'}""",
        """{"name": "f", "arguments": '{"a": "\\ud800"}'}""",
        """{"name": "f", "arguments": '{"a": 1} {"b": 2}'}""",
        """{"name": "f", "arguments": '""" + '{"a":' * 80 + "1" + "}" * 80 + "'}",
        """{"name": "f", "arguments": '""" + '{"a":' * 90_000 + "'}",
        """{"name": "f", "arguments": '{"a": """ + "9" * 5000 + "}'}",
    ],
)
def test_calls_that_are_refused(text: str) -> None:
    error = refused_turns("USER: u", f"ASSISTANT: {CALL} {text} {END}")
    assert error.reason == "call"
    assert len(error.detail) < 300


def test_text_before_a_call() -> None:
    turn = f'ASSISTANT: Let me see. {CALL} {{"name": "f", "arguments": {{}}}} {END}'
    message = read("USER: u", turn)[-1]
    assert message.content == "Let me see."
    assert message.tool_calls == (ToolCall(name="f"),)


@pytest.mark.parametrize("end", ["", f" {END}"])
def test_text_and_call_in_two_turns_are_one_message(end: str) -> None:
    call = f'ASSISTANT: {CALL} {{"name": "f", "arguments": {{}}}} {END}'
    messages = read("USER: u", f"ASSISTANT: Let me see.{end}", call, "FUNCTION RESPONSE: 1")
    assert messages[1:] == (
        Message(role="assistant", content="Let me see.", tool_calls=(ToolCall(name="f"),)),
        Message(role="tool", content="1"),
    )


def test_parallel_calls_and_their_results_in_order() -> None:
    call = CALL + """ {"name": "f", "arguments": '{"a": %d}'}"""
    messages = read(
        "USER: u",
        f"ASSISTANT: {call % 1} {call % 2} {END}",
        "FUNCTION RESPONSE: one",
        "FUNCTION RESPONSE: two",
        f"ASSISTANT: done {END}",
    )
    assert [call.arguments for call in messages[1].tool_calls] == [{"a": 1}, {"a": 2}]
    assert [message.content for message in messages[2:4]] == ["one", "two"]


def test_markers_inside_text_are_text() -> None:
    said = "Write\nUSER: hi\n\nASSISTANT: hello\nFUNCTION RESPONSE: {}"
    assert read(f"USER: {said}", f"ASSISTANT: {said} {END}")[0].content == said


def test_a_turn_also_ends_at_the_next_marker() -> None:
    turns = ("USER: a", "ASSISTANT: b", "USER: c", f"ASSISTANT: d {END}")
    assert [message.content for message in read(*turns)] == ["a", "b", "c", "d"]


def test_a_result_may_be_empty() -> None:
    call = f'ASSISTANT: {CALL} {{"name": "f", "arguments": {{}}}} {END}'
    assert read("USER: u", call, "FUNCTION RESPONSE: ")[-1] == Message(role="tool")


SAY = f"ASSISTANT: a {END}"
DO = f'ASSISTANT: {CALL} {{"name": "f", "arguments": {{}}}} {END}'


@pytest.mark.parametrize(
    ("reason", "turns"),
    [
        ("turns", [""]),
        ("turns", ["hello", SAY]),
        ("turns", ["USER: a", "SYSTEM: b", SAY]),
        ("unterminated", ["USER: a", f"ASSISTANT: b {END} c {END}"]),
        ("unterminated", ["USER: a", f"ASSISTANT: b {END} c", "USER: d", SAY]),
        ("unterminated", ["USER: a", f"ASSISTANT: b\n\n\nUSER: quoted {END}"]),
        ("unterminated", [f"USER: a {END}", SAY]),
        ("call", ["USER: a", f"ASSISTANT: the mark is {CALL} {END}"]),
        ("nothing-to-learn", ["USER: a"]),
    ],
)
def test_chats_that_are_refused(reason: str, turns: list[str]) -> None:
    assert refused_turns(*turns).reason == reason


@pytest.mark.parametrize(
    ("kind", "turns"),
    [
        ("repeated-role", ["USER: a", "USER: b", SAY]),
        ("repeated-role", ["USER: a", SAY, SAY]),
        ("repeated-role", ["USER: a", SAY, DO.replace(CALL, f"b {CALL}")]),
        ("empty-turn", ["USER: ", SAY]),
        ("empty-turn", ["USER: a", f"ASSISTANT: {END}"]),
        ("empty-turn", ["USER: a", SAY, "USER: b", "ASSISTANT:"]),
        ("cut-off", ["USER: a", "ASSISTANT: b"]),
        ("results", ["USER: a", "FUNCTION RESPONSE: {}", SAY]),
        ("results", ["USER: a", DO, SAY]),
        ("results", ["USER: a", DO, DO]),
        ("results", ["USER: a", DO, "USER: b", SAY]),
        ("results", ["USER: a", DO, "FUNCTION RESPONSE: 1", "FUNCTION RESPONSE: 2", SAY]),
        ("results", ["USER: a", DO.replace(END, DO[11:]), "FUNCTION RESPONSE: 1"]),
        ("unknown-function", ["USER: a", DO.replace('"f"', '"g"')]),
    ],
)
def test_chats_that_are_read_with_a_doubt(kind: str, turns: list[str]) -> None:
    """What was said is certain; that it should be learned is not."""
    doubts = read_turns(*turns).doubts
    assert kind in {doubt.kind for doubt in doubts}
    assert all(str(doubt).isprintable() and len(str(doubt)) < 300 for doubt in doubts)


def test_a_call_at_the_end_is_whole_without_its_end_mark() -> None:
    assert read("USER: a", DO.removesuffix(END))[-1].tool_calls == (ToolCall(name="f"),)


def test_what_a_doubt_says() -> None:
    (doubt,) = read_turns("USER: a", DO.replace('"f"', '"g"')).doubts
    assert doubt == Doubt("unknown-function", "message 2 (assistant) calls g; offered: f")


@pytest.mark.parametrize("between", ["", " ", "\n", "\n\n", "\r\n\r\n\r\n", "\n \n\t\n\n\n"])
def test_a_marker_after_an_end_mark_needs_no_empty_lines(between: str) -> None:
    row = {"system": NONE, "chat": f"USER: a\n\n\n{SAY}{between}USER: b\r\n\r\n\r\n{SAY}{END}"}
    messages = parse_row(row).conversation.messages
    assert [message.content for message in messages] == ["a", "a", "b", "a"]


def test_an_empty_turn_before_a_call_is_part_of_it() -> None:
    messages = read("USER: u", f"ASSISTANT: {END}", DO)
    assert messages[1:] == (Message(role="assistant", tool_calls=(ToolCall(name="f"),)),)


@pytest.mark.parametrize(
    "text",
    [
        """{"name": "f", "arguments": '{"a": 1}'}\n{"name": "f", "arguments": '{"a": "it's"}'}""",
        """{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {"a": "it's"}}""",
        """[{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {"a": "it's"}}]""",
        f"""{{"name": "f", "arguments": '{{"a": 1}}'}} {CALL} """
        """{"name": "f", "arguments": '{"a": "it's"}'}""",
    ],
)
def test_several_calls_in_one_turn(text: str) -> None:
    (message,) = read("USER: u", f"ASSISTANT: {CALL} {text} {END}")[1:]
    assert [call.arguments for call in message.tool_calls] == [{"a": 1}, {"a": "it's"}]


@pytest.mark.parametrize("between", ["\n", "\n\n", "", ",\n", " "])
def test_functions_stand_one_after_another(between: str) -> None:
    functions = [{**F, "name": name} for name in ("one", "two", "three")]
    row = {"system": system(*functions, between=between), "chat": chat("USER: u", SAY)}
    assert [tool.name for tool in parse_row(row).conversation.tools] == ["one", "two", "three"]


EMPTY = {"type": "object", "properties": {}}
NO_REQUIRED = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        ({"name": "f"}, EMPTY),
        ({"name": "f", "description": None, "parameters": None}, EMPTY),
        ({"name": "f", "parameters": {}}, EMPTY),
        ({"name": "f", "parameters": {"type": "object"}}, {"type": "object"}),
        ({"name": "f", "parameters": NO_REQUIRED}, NO_REQUIRED),
        ({"name": "f", "parameters": {"properties": {}}}, EMPTY),
        ({"name": "f", "parameters": []}, EMPTY),
        ({"name": "f", "parameters": {"type": "object", "properties": None}}, EMPTY),
        ({"name": "f", "parameters": {"type": "dict", "properties": {}}}, EMPTY),
        (
            {"name": "f", "parameters": {"a": {"type": "string"}}},
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        ),
        ({"type": "function", "function": {"name": "f", "strict": True}}, EMPTY),
        ({"name": "f", "parameters": EMPTY, "returns": {"type": "string"}}, EMPTY),
    ],
)
def test_odd_functions(function: dict[str, Any], parameters: dict[str, Any]) -> None:
    row = {"system": system(function), "chat": chat("USER: u", SAY)}
    assert parse_row(row).conversation.tools == (Tool(name="f", parameters=parameters),)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        "1",
        "{} trailing",
        '{"name": ""}',
        '{"name": 1}',
        '{"description": "d"}',
        '{"name": "f", "description": 1}',
        '{"name": "f", "parameters": [1]}',
        '{"name": "f", "parameters": "none"}',
        '{"name": "f", "parameters": {"type": "object", "properties": []}}',
        '{"name": "f", "parameters": {"type": "string"}}',
        '{"name": "f", "parameters": {"a": {"type": "string"}, "b": 1}}',
        '{"name": "f"} and be brief',
    ],
)
def test_functions_that_are_refused(text: str) -> None:
    row = {"system": system() + text, "chat": chat("USER: u", SAY)}
    assert refused(row).reason == "functions"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (NONE, None),
        ("", None),
        ("SYSTEM: ", None),
        (system(), None),
        (system(F), None),
        ("SYSTEM: Be brief.\n", "Be brief."),
        ("Be brief.", "Be brief."),
        (NONE + "Be brief.", "Be brief."),
        (NONE.replace("SYSTEM: ", "SYSTEM: Be brief.\n") + "Be kind.", "Be brief.\nBe kind."),
        (system(F).replace("SYSTEM: ", "SYSTEM: Be brief.\n"), "Be brief."),
    ],
)
def test_only_other_system_text_is_kept(text: str, kept: str | None) -> None:
    row = {"system": text, "chat": chat("USER: u", SAY)}
    first = parse_row(row).conversation.messages[0]
    assert first == (
        Message(role="system", content=kept) if kept else Message(role="user", content="u")
    )


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"system": NONE},
        {"chat": chat("USER: u", SAY)},
        {"system": None, "chat": chat("USER: u", SAY)},
        {"system": NONE, "chat": ["USER: u"]},
        {"system": NONE, "chat": chat("USER: \ud800", SAY)},
    ],
)
def test_columns_that_are_refused(row: dict[str, Any]) -> None:
    assert refused(row).reason == "columns"


def test_a_message_is_fit_for_a_terminal() -> None:
    error = refused_turns("\x1b[31mred\nline" + "x" * 10_000)
    assert str(error).isprintable()
    assert len(str(error)) < 300


def test_the_written_layout_is_glaives_own() -> None:
    row = {
        "system": system(F, {**F, "name": "g"}),
        "chat": chat(
            "USER: Both, please.",
            f'ASSISTANT: {CALL} {{"name": "f", "arguments": \'{{"a": "Bob\'s"}}\'}} '
            f'{CALL} {{"name": "g", "arguments": \'{{}}\'}} {END}',
            "FUNCTION RESPONSE: 1",
            "FUNCTION RESPONSE: 2",
            f"ASSISTANT: Done. {END}",
        ),
    }
    assert write_row(parse_row(row).conversation) == row
    plain = {"system": NONE, "chat": chat("USER: Hi", f"ASSISTANT: Hello. {END}")}
    assert write_row(parse_row(plain).conversation) == plain


def user(text: str) -> Message:
    return Message(role="user", content=text)


def says(text: str, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=text, tool_calls=calls)


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (user("u"),),
        (user(" u"), says("a")),
        (user("a\n\n\nASSISTANT: b"), says("a")),
        (user("u"), says(f"a {END} b")),
        (user("u"), says(f"a {CALL} b")),
        (user("u"), says("a"), Message(role="system", content="s")),
        (Message(role="system"), user("u"), says("a")),
        (Message(role="system", content=NONE), user("u"), says("a")),
        (user("u"), says("a"), says("", ToolCall(name="f"))),
        (user("u"), says("", ToolCall(name="f", arguments={"a": float("nan")}))),
        (user("u"), says("", ToolCall(name="f", arguments={"a": {1, 2}}))),
        (user("u"), says("", ToolCall(name="f", arguments={"a": "\ud800"}))),
        (user("u"), says("", ToolCall(name="f", arguments={"a": CALL}))),
        (Message(role="user", content="u", tool_calls=(ToolCall(name="f"),)), says("a")),
    ],
)
def test_what_the_layout_cannot_hold(messages: tuple[Message, ...]) -> None:
    with pytest.raises(RowError) as caught:
        write_row(Conversation(messages=messages, tools=(Tool(name="f"),)))
    assert caught.value.reason == "inexpressible"


def test_the_message_that_cannot_be_held_is_named() -> None:
    with pytest.raises(RowError, match=r"message 3 \(user\)"):
        write_row(Conversation(messages=(user("a"), says("b"), user("c "), says("d"))))


# Text with much of what the layout's own signs are made of.
SIGNS = ["'", '"', "\\", "{", "}", "\n", "\n\n\n", "USER: ", "ASSISTANT:", "'}", "\\'", "\\n", "é"]
TEXT = st.lists(st.sampled_from(SIGNS) | st.text(max_size=4), max_size=6).map("".join)
SAID = TEXT.map(lambda text: text.strip(" \t\r\n")).filter(bool)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
ARGUMENTS = st.dictionaries(TEXT, JSON, max_size=3)
TOOLS: st.SearchStrategy[tuple[Tool, ...]] = st.lists(
    st.builds(
        Tool,
        name=TEXT.filter(bool),
        description=TEXT,
        parameters=st.dictionaries(TEXT, JSON, max_size=2).map(lambda p: {**p, "type": "object"}),
    ),
    max_size=3,
).map(tuple)


@st.composite
def conversations(draw: st.DrawFn, text: st.SearchStrategy[str]) -> Conversation:
    tools = draw(TOOLS)
    messages = [Message(role="system", content=draw(text))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(user(draw(text)))
        while draw(st.booleans()) and tools:
            names = draw(st.lists(st.sampled_from([t.name for t in tools]), min_size=1, max_size=3))
            calls = [ToolCall(name=name, arguments=draw(ARGUMENTS)) for name in names]
            messages.append(says(draw(st.just("") | text), *calls))
            messages += [Message(role="tool", content=draw(text)) for _ in calls]
        messages.append(says(draw(text)))
    return Conversation(messages=tuple(messages), tools=tools)


def has_marker(conversation: Conversation) -> bool:
    return any("\n\n\n" in message.content for message in conversation.messages)


@given(conversations(SAID))
def test_round_trip(conversation: Conversation) -> None:
    assume(not has_marker(conversation))
    reading = parse_row(write_row(conversation))
    assert reading == Reading(conversation)


@given(conversations(TEXT | st.sampled_from([END, CALL, NONE])))
def test_what_is_written_reads_back_or_is_refused(conversation: Conversation) -> None:
    reason = None
    try:
        row = write_row(conversation)
    except RowError as error:
        reason = error.reason
    assert reason == "inexpressible" or parse_row(row).conversation == conversation


PIECES = st.sampled_from(
    ["USER: ", "ASSISTANT: ", "FUNCTION RESPONSE: ", "SYSTEM: ", "\n\n\n", CALL, END, NONE.strip(),
     system().strip(), '{"name": "f", "arguments": ', "'{}'}", '{"name": "f"}', "'", '"', "{", "}"]
)  # fmt: skip
ANYTHING = st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join)
ROW = st.dictionaries(st.sampled_from(["system", "chat"]), ANYTHING | JSON)


@given(ROW)
@example({"system": "[" * 100_000, "chat": "USER: "})
@example({"system": system() + '{"name": ' * 100_000, "chat": "USER: "})
@example({"system": system() + '{"a": ' + "[" * 900 + "]" * 900 + "}", "chat": "USER: "})
def test_any_row_is_read_or_refused(row: dict[str, Any]) -> None:
    reason = None
    try:
        messages = parse_row(row).conversation.messages
    except RowError as error:
        reason = error.reason
    assert reason in REASONS or any(message.role == "assistant" for message in messages)


def test_long_hostile_calls_take_linear_time() -> None:
    """A pattern that backtracks would need hours for these."""
    started = time.monotonic()
    for text in ("' " * 50_000, '{"name": "f", "arguments": \'' + "' }" * 50_000, "\\" * 100_000):
        assert refused_turns("USER: u", f"ASSISTANT: {CALL} {text} {END}").reason == "call"
    assert time.monotonic() - started < 10


def sample() -> Path:
    beside = Path(__file__).resolve().parents[3] / "shared" / "data" / "glaive_v2_sample.jsonl"
    path = Path(os.environ.get("TOOLSMITH_GLAIVE_SAMPLE", beside))
    if not path.exists():
        pytest.skip(f"no real Glaive rows: set TOOLSMITH_GLAIVE_SAMPLE or put them at {beside}")
    return path


def test_real_rows_are_read_and_written_back_unchanged() -> None:
    with sample().open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert rows
    for row in rows:
        reading = parse_row(row)
        assert not reading.doubts
        assert write_row(reading.conversation) == row
