r"""Calls as data sets write them → name and arguments.

Read are, in this order:
- JSON: `{"name": "f", "arguments": {"a": 1}}`, the arguments as an object or as its JSON text; no
  arguments at all may be `""`, as OpenAI's API gives them;
- Glaive's `{"name": "f", "arguments": '{"a": "it's"}'}`: JSON between single quotes, where
  apostrophes are usually not escaped;
- a Python literal: `{'name': 'f', 'arguments': {'a': True}}`, as Hermes' rows have it.
Several calls may stand in a list or one after the other. What none of them reads is refused.
"""

from __future__ import annotations

import ast
import io
import itertools
import re
import tokenize
from typing import Any

from train.data.errors import RowError, short
from train.data.strict_json import BLANK, MAX_DEPTH, check, decode, decode_at
from train.messages import ToolCall

_NAME = r""""name"\s*:\s*(?P<name>"(?:[^"\\]|\\.)*")"""
_ARGUMENTS = r""""arguments"\s*:\s*'\s*"""
# Each opening with the closing that belongs to it; the JSON of the arguments stands between them.
_QUOTED = (
    (
        re.compile(r"\{\s*" + _NAME + r"\s*,\s*" + _ARGUMENTS, re.DOTALL),
        re.compile(r"\s*'\s*\}"),
    ),
    (
        re.compile(r"\{\s*" + _ARGUMENTS, re.DOTALL),
        re.compile(r"\s*'\s*,\s*" + _NAME + r"\s*\}", re.DOTALL),
    ),
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BETWEEN = re.compile(r"[\s,]*")
_KEYS = ("name", "arguments")


def calls_in_text(text: str) -> tuple[ToolCall, ...]:
    """The calls that the text holds and nothing besides; at least one. Raises RowError."""
    try:
        return _read(text)
    except ValueError as error:
        raise RowError("call", f"{error}: {short(text)}") from error


def call(value: Any) -> ToolCall:
    """A call from decoded JSON. Raises RowError."""
    try:
        return _call(value)
    except ValueError as error:
        raise RowError("call", f"{error}: {short(repr(value))}") from error


def named_call(name: Any, arguments: Any) -> ToolCall:
    """A call from its parts; arguments may be JSON text. Raises RowError."""
    return call({"name": name, "arguments": arguments})


def _read(text: str) -> tuple[ToolCall, ...]:
    text = text.strip(BLANK)
    quoted = text
    if "\\'" in text:
        # JSON has no such escape; between single quotes it stands for an apostrophe.
        quoted = _ESCAPE.sub(lambda escape: "'" if escape[1] == "'" else escape[0], text)
    calls: list[ToolCall] = []
    at = 0
    try:
        while at < len(quoted):
            found, at = _next(quoted, at)
            calls += found
    except ValueError:
        if calls or not _is_literal(text):
            raise
        calls = _calls(_literal(text))
    if not calls:
        raise ValueError("no call")
    return tuple(calls)


def _next(text: str, at: int) -> tuple[list[ToolCall], int]:
    """The call or the list of calls at `at`, and where the next one would start."""
    for opening, closing in _QUOTED:
        if start := opening.match(text, at):
            calls, end = _quoted(text, start, closing)
            break
    else:
        value, end = decode_at(text, at)
        calls = _calls(value)
    between = _BETWEEN.match(text, end)
    return calls, between.end() if between else end


def _quoted(
    text: str, start: re.Match[str], closing: re.Pattern[str]
) -> tuple[list[ToolCall], int]:
    arguments: Any = {}
    end = start.end()
    if not text.startswith("'", end):  # '' is no arguments, as "" is
        arguments, end = decode_at(text, end)
    # JSON ends where it ends, however many apostrophes are in it: the next quote closes.
    close = closing.match(text, end)
    if not close:
        raise ValueError(f"the quoted arguments do not end as a call does, at character {end + 1}")
    name = (start if "name" in start.re.groupindex else close)["name"]
    return [_call({"name": decode(name), "arguments": arguments})], close.end()


def _calls(value: Any) -> list[ToolCall]:
    return [_call(each) for each in value] if isinstance(value, list) else [_call(value)]


def _call(value: Any) -> ToolCall:
    if not isinstance(value, dict) or value.keys() != set(_KEYS):
        raise ValueError("not an object of name and arguments")
    name, arguments = value["name"], value["arguments"]
    if isinstance(arguments, str):
        arguments = _arguments(arguments)
    else:
        check(arguments)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise ValueError("the name is not text or the arguments are not an object")
    check(name)
    return ToolCall(name=name, arguments=arguments)


def _arguments(text: str) -> Any:
    return json_or_literal(text) if text.strip(BLANK) else {}


def json_or_literal(text: str) -> Any:
    """The JSON value that is the whole text, or the Python literal. Raises ValueError."""
    try:
        return decode(text)
    except ValueError:
        if not _is_literal(text):
            raise
    return _literal(text)


def _is_literal(text: str) -> bool:
    """Whether it is worth trying: quoted with apostrophes from the first key on."""
    return re.match(r"\s*[\[{]\s*[\[{]?\s*'", text) is not None


def _literal(text: str) -> Any:
    """A Python literal that is JSON in other clothes. Raises ValueError."""
    if text.count("{") + text.count("[") + text.count("(") > 50 * MAX_DEPTH:
        raise ValueError("nested too deeply")
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        for one, other in itertools.pairwise(tokens):
            # 'it''s' is one string to Python, and an apostrophe to whoever wrote it.
            if one.type == other.type == tokenize.STRING:
                raise ValueError("two quoted texts without a comma")
        value = ast.literal_eval(text)
    except (SyntaxError, tokenize.TokenError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError("neither JSON nor a Python literal") from error
    check(value)
    return value
