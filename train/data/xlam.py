"""Rows in xLAM's layout: one question, its functions, and the calls that answer it.

`query` is text; `tools` and `answers` are lists, or their JSON text. The functions' parameters are
a flat map with Python's names of types (see train.data.functions), `answers` holds
`{"name", "arguments"}`. There are no results: the row ends with the calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.data.calls import call
from train.data.conversations import system_column, unicode
from train.data.errors import RowError, short
from train.data.functions import tools_in_column
from train.data.strict_json import decode
from train.data.turns import Reading, Turns, reading
from train.messages import ToolCall


def fits(row: Mapping[str, Any]) -> bool:
    """Whether the row has this layout's columns."""
    return isinstance(row.get("query"), str) and "answers" in row and "tools" in row


def parse_row(row: Mapping[str, Any]) -> Reading:
    """Read one row. Raises RowError."""
    query = row.get("query")
    if not isinstance(query, str):
        raise RowError("columns", "column 'query' is missing or not text")
    calls = _calls(row.get("answers"))
    if not calls:
        raise RowError("nothing-to-learn", "the row has no answers")
    read = Turns()
    if system := system_column(row):
        read.add("system", system)
    read.add("user", unicode(query, "column 'query'"))
    read.add("assistant", "", calls)
    return reading(read.messages, tools_in_column(row.get("tools"), "tools"))


def _calls(answers: Any) -> tuple[ToolCall, ...]:
    if isinstance(answers, str):
        try:
            answers = decode(answers)
        except ValueError as error:
            raise RowError("call", f"answers are not JSON ({error}): {short(answers)}") from error
    if not isinstance(answers, list):
        raise RowError("columns", f"column 'answers' holds {type(answers).__name__}, not a list")
    return tuple(call(answer) for answer in answers)
