"""Rows in the ShareGPT layout that LLaMA-Factory extends with calls.

`conversations` is a list of `{"from", "value"}`: human, gpt, function_call, observation, system.
`system` (text) and `tools` (functions as JSON text or a list) are optional columns. A
`function_call` holds one call or a list of calls as JSON; where it holds several, one observation
that is a list of as many results is taken apart. A gpt turn and the function_call right after it
are one message: that is how a served model gives them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from train.data.calls import calls_in_text
from train.data.conversations import keys, system_column, turns, unknown_role, values
from train.data.errors import RowError
from train.data.functions import tools_in_column
from train.data.hermes import CALL
from train.data.strict_json import BLANK, decode
from train.data.turns import Reading, Turns, reading

_USER = ("human", "user")
_ASSISTANT = ("gpt", "assistant", "model", "chatgpt")
_CALL = ("function_call", "function-call")
_RESULT = ("observation", "tool", "function-response", "function_response")
_ROLES = ("system", *_USER, *_ASSISTANT, *_CALL, *_RESULT)


def fits(row: Mapping[str, Any]) -> bool:
    """Whether the row has this layout's columns, and its calls are not Hermes' own."""
    return keys(row) == "from/value" and not any(
        turn.get("from") in _ASSISTANT and CALL in str(turn.get("value")) for turn in turns(row)
    )


def parse_row(row: Mapping[str, Any]) -> Reading:
    """Read one row. Raises RowError."""
    read = Turns()
    waiting = 0  # calls of the last function_call
    if system := system_column(row):
        read.add("system", system)
    for number, (who, value) in enumerate(values(row), start=1):
        if who in _RESULT:
            for result in _results(value, waiting):
                read.add("tool", result)
            waiting = 0
            continue
        waiting = 0
        if who == "system":
            read.add("system", value)
        elif who in _USER:
            read.add("user", value)
        elif who in _CALL:
            calls = calls_in_text(value)
            read.add_assistant("", calls)
            waiting = len(calls)
        elif who in _ASSISTANT:
            if CALL in value:
                raise RowError("call", f"turn {number} holds {CALL}: is the row in Hermes' layout?")
            read.add_assistant(value)
        else:
            raise unknown_role(number, who, _ROLES)
    return reading(read.messages, tools_in_column(row.get("tools"), "tools"))


def _results(value: str, calls: int) -> list[str]:
    if calls < 2 or not value.lstrip(BLANK).startswith("["):
        return [value]
    try:
        results = decode(value)
    except ValueError:
        return [value]
    if len(results) != calls:
        return [value]
    return [
        each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in results
    ]
