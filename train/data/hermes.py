"""Rows in the layout of NousResearch/hermes-function-calling-v1: calls as marked text.

`conversations` is a list of `{"from", "value"}`: system, human, gpt, tool. The functions stand
between `<tools>` and `</tools>` in the system prompt, and often in a column `tools` too; a gpt turn
holds text and then calls, each between `<tool_call>` and `</tool_call>`; a tool turn holds results
between `<tool_response>` and `</tool_response>`, mostly as `{"name", "content"}`.

What is dropped, because a served model would never see it: the sentences of the system prompt that
explain these marks (the chat template says that in its own words), and the wrapping of a result
(a client sends its content alone). Any other system text is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from train.data.calls import calls_in_text, json_or_literal
from train.data.conversations import keys, system_column, turns, unknown_role, values
from train.data.errors import RowError, short
from train.data.functions import tools_in_column, tools_in_text
from train.data.strict_json import BLANK
from train.data.turns import Reading, Turns, reading
from train.messages import Tool, ToolCall

CALL, CALL_END = "<tool_call>", "</tool_call>"
_TRIES = 8  # end marks to try for a call whose arguments may hold the mark themselves

_TOOLS = re.compile(r"<tools>(.*?)</tools>", re.DOTALL)
_RESULT = re.compile(r"\s*<tool_response>\s*(.*?)\s*</tool_response>\s*", re.DOTALL)
_SENTENCES = tuple(
    re.compile(pattern.replace(" ", r"\s+"))
    for pattern in (
        r"You are a function calling AI model\.",
        r"You are provided with function signatures within <tools>\s*</tools> XML tags[.:]",
        r"You may call one or more functions to assist with the user query\.",
        r"Don't make assumptions about what values to plug into functions\.",
        r"Here are the available tools:",
        r"Use the following pydantic model json schema for each tool call you will make:\s*"
        r"\{[^<]*?\}(?=\s*(?:For each function call|\Z))",
        r"For each function call,? return a json object with function name and arguments within "
        r"<tool_call>\s*</tool_call>(?: XML)? tags(?: with the following schema| as follows)?:\s*"
        r"<tool_call>\s*\{[^{}]*\}\s*</tool_call>",
        r"# Tools(?=\s)",
    )
)
_ROLES = ("system", "human", "user", "gpt", "assistant", "tool")


def fits(row: Mapping[str, Any]) -> bool:
    """Whether the row has this layout's columns and no turns that only ShareGPT has."""
    return keys(row) == "from/value" and all(turn.get("from") in _ROLES for turn in turns(row))


def parse_row(row: Mapping[str, Any]) -> Reading:
    """Read one row. Raises RowError."""
    read = Turns()
    tools: tuple[Tool, ...] = ()
    if system := system_column(row):
        tools = _add_system(read, system)
    for number, (who, value) in enumerate(values(row), start=1):
        if who == "system":
            tools += _add_system(read, value)
        elif who in ("human", "user"):
            read.add("user", value)
        elif who in ("gpt", "assistant"):
            read.add_assistant(*_answer(value))
        elif who == "tool":
            for result in _results(value):
                read.add("tool", result)
        else:
            raise unknown_role(number, who, _ROLES)
    column = tools_in_column(row.get("tools"), "tools")
    if tools and column and {tool.name for tool in tools} != {tool.name for tool in column}:
        raise RowError("functions", "the system prompt and the column `tools` differ")
    return reading(read.messages, tools or column)


def _add_system(read: Turns, text: str) -> tuple[Tool, ...]:
    """Add what is the row's own of a system prompt; returns its functions."""
    tools: tuple[Tool, ...] = ()
    own = text
    for block in _TOOLS.finditer(text):
        # The sentence that explains the marks holds an empty pair of them.
        if block[1].strip(BLANK):
            tools += tools_in_text(block[1].strip(BLANK))
            own = own.replace(block[0], "")
    for sentence in _SENTENCES:
        own = sentence.sub("", own)
    if own.strip(" \t\r\n."):
        read.add("system", own.strip(BLANK))
    return tools


def _answer(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    said, mark, rest = text.partition(CALL)
    calls: list[ToolCall] = []
    while mark:
        found, rest = _first_call(rest)
        calls += found
        between, mark, rest = rest.partition(CALL)
        if between.strip(BLANK):
            raise RowError("call", f"text after a call: {short(between.strip(BLANK))}")
    if CALL_END in said:
        raise RowError("call", f"{CALL_END} without {CALL}: {short(said)}")
    return said.strip(BLANK), tuple(calls)


def _first_call(text: str) -> tuple[tuple[ToolCall, ...], str]:
    """The call that the text starts with, and what follows its end mark."""
    end, problem = -1, RowError("call", f"no {CALL_END}: {short(text)}")
    for _ in range(_TRIES):
        end = text.find(CALL_END, end + 1)
        if end < 0:
            break
        try:
            return calls_in_text(text[:end]), text[end + len(CALL_END) :]
        except RowError as error:
            problem = error
    raise problem


def _results(text: str) -> list[str]:
    results, at = [], 0
    while found := _RESULT.match(text, at):
        results.append(_unwrapped(found[1]))
        at = found.end()
    # Anything besides the marked results: the turn is one result, as it stands.
    return results if results and at == len(text) else [text.strip(BLANK)]


def _unwrapped(text: str) -> str:
    try:
        value = json_or_literal(text)
    except ValueError:
        return text
    if not isinstance(value, dict) or value.keys() not in ({"name", "content"}, {"content"}):
        return text
    content = value["content"]
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
