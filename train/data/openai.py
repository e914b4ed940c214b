"""Rows in OpenAI's fine-tuning layout: `messages` with tool calls, and `tools`.

Read are also the older names of the same things (`functions`, `function_call`, role `function`), a
`developer`'s message as a system message, arguments as JSON text or as an object, and content as
text, as a list of text parts, or as a refusal. Results stand in the order of their calls: those
with a `tool_call_id` are put there, the others are in it already. What a conversation here cannot
hold is refused: images and audio, custom tools, and messages with `weight: 0`, whose author
did not want them trained. Names of people and other keys are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.data.calls import named_call
from train.data.conversations import keys, turns, unicode, unknown_role
from train.data.errors import RowError, short
from train.data.functions import tools_in_column
from train.data.turns import Reading, Turns, reading
from train.messages import Message, Tool, ToolCall

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def fits(row: Mapping[str, Any]) -> bool:
    """Whether the row has this layout's columns."""
    return keys(row) == "role/content"


def parse_row(row: Mapping[str, Any]) -> Reading:
    """Read one row. Raises RowError."""
    read = Turns()
    ids: list[str | None] = []  # of the last calls, None for one without
    results: dict[int, Message] = {}  # the results so far, by the place of their call
    for number, message in enumerate(turns(row), start=1):
        role = message.get("role")
        where = f"turn {number} ({short(str(role))})"
        if message.get("weight") == 0:
            raise RowError("unsupported", f"{where} has weight 0: it is not to be trained")
        if role in ("tool", "function"):
            place = _place(message, ids, results, where)
            results[place] = Message(role="tool", content=_content(message, where))
            continue
        _close(read, results)
        ids = []
        if role in ("system", "developer"):
            read.add("system", _content(message, where))
        elif role == "user":
            read.add("user", _content(message, where))
        elif role == "assistant":
            calls, ids = _calls(message, where)
            read.add("assistant", _content(message, where), calls)
        else:
            raise unknown_role(number, role, _ROLES)
    _close(read, results)
    return reading(read.messages, _tools(row))


def _close(read: Turns, results: dict[int, Message]) -> None:
    """Add the results that were gathered, in the order of their calls."""
    read.messages += [results[place] for place in sorted(results)]
    results.clear()


def _place(
    message: Mapping[str, Any], ids: list[str | None], results: dict[int, Message], where: str
) -> int:
    """Which of the last calls the result belongs to."""
    call_id = message.get("tool_call_id")
    if call_id is None or not any(ids):
        return max(results, default=-1) + 1
    if call_id not in ids:
        raise RowError("results", f"{where} answers a call that was not made: {call_id!r}"[:200])
    place = ids.index(call_id)
    if place in results:
        raise RowError("results", f"{where} is a second result of the call {call_id!r}"[:200])
    return place


def _content(message: Mapping[str, Any], where: str) -> str:
    content = message.get("content")
    if content is None:
        content = message.get("refusal") or ""
    if isinstance(content, list):
        content = "".join(_part(part, where) for part in content)
    if not isinstance(content, str):
        raise RowError("unsupported", f"the content of {where} is {type(content).__name__}")
    return unicode(content, where)


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    text = part.get(kind) if kind in ("text", "refusal") else None
    if not isinstance(text, str):
        raise RowError("unsupported", f"{where} holds a part of type {short(repr(kind))}")
    return text


def _calls(message: Mapping[str, Any], where: str) -> tuple[tuple[ToolCall, ...], list[str | None]]:
    entries = message.get("tool_calls") or []
    older = message.get("function_call")
    if not isinstance(entries, list) or (entries and older):
        raise RowError("call", f"{where}: `tool_calls` is no list, or `function_call` is there too")
    if older:
        entries = [{"function": older}]
    calls: list[ToolCall] = []
    ids: list[str | None] = []
    for entry in entries:
        function = entry.get("function") if isinstance(entry, dict) else None
        if not isinstance(function, dict) or entry.get("type", "function") != "function":
            raise RowError("unsupported", f"{where} has a call that is no function call")
        calls.append(named_call(function.get("name"), function.get("arguments")))
        call_id = entry.get("id")
        if call_id is not None and (not isinstance(call_id, str) or call_id in ids):
            raise RowError("call", f"{where} has the call id {call_id!r} twice, or it is no text")
        ids.append(call_id)
    return tuple(calls), ids


def _tools(row: Mapping[str, Any]) -> tuple[Tool, ...]:
    tools, functions = (tools_in_column(row.get(name), name) for name in ("tools", "functions"))
    if tools and functions and tools != functions:
        raise RowError("functions", "the columns `tools` and `functions` differ")
    return tools or functions
