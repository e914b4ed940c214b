"""The list of turns that OpenAI's, ShareGPT's and Hermes' rows have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from train.data.errors import RowError, short
from train.data.strict_json import is_unicode

COLUMNS = ("messages", "conversations")
Keys = Literal["role/content", "from/value"]


def column(row: Mapping[str, Any]) -> str | None:
    """The name of the column that holds the turns."""
    return next((name for name in COLUMNS if isinstance(row.get(name), list)), None)


def keys(row: Mapping[str, Any]) -> Keys | None:
    """How the turns are written: `role` and `content` as OpenAI, or `from` and `value`."""
    name = column(row)
    if not name or not row[name] or not all(isinstance(turn, dict) for turn in row[name]):
        return None
    first = row[name][0]
    if "role" in first:
        return "role/content"
    return "from/value" if "from" in first else None


def turns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The turns of a row. Raises RowError."""
    name = column(row)
    if name is None:
        raise RowError("columns", f"none of the columns {', '.join(COLUMNS)} holds a list")
    for number, turn in enumerate(row[name], start=1):
        if not isinstance(turn, dict):
            raise RowError("turns", f"turn {number} is {type(turn).__name__}, not an object")
    if not row[name]:
        raise RowError("turns", f"column {name!r} has no turns")
    return list(row[name])


def values(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The turns of a `from`/`value` row as pairs. Raises RowError."""
    pairs = []
    for number, turn in enumerate(turns(row), start=1):
        who, value = turn.get("from"), turn.get("value")
        if not isinstance(who, str) or not isinstance(value, str):
            raise RowError("turns", f"turn {number} lacks a `from` and a `value` of text")
        pairs.append((who, unicode(value, f"turn {number}")))
    return pairs


def system_column(row: Mapping[str, Any]) -> str:
    """The text of the column `system`, where there is one. Raises RowError."""
    value = row.get("system")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError("columns", f"column 'system' holds {type(value).__name__}, not text")
    return unicode(value, "column 'system'")


def unicode(text: str, where: str) -> str:
    """The text, if it can be encoded at all. Raises RowError."""
    if not is_unicode(text):
        raise RowError("columns", f"{where} holds half of a surrogate pair")
    return text


def unknown_role(number: int, role: object, known: tuple[str, ...]) -> RowError:
    """The error for a turn of a role that the layout does not have."""
    return RowError(
        "turns", f"turn {number} is of role {short(repr(role))}; known are {', '.join(known)}"
    )
