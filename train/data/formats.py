"""The layouts that rows can have, and which of them a data set has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from train.data import glaive, hermes, openai, sharegpt, xlam
from train.data.errors import DataError, RowError, short
from train.data.turns import Reading

Format = Literal["glaive", "openai", "sharegpt", "hermes", "xlam"]
FORMATS: tuple[Format, ...] = get_args(Format)
SAMPLED = 50  # rows at the start of a data set that its format is detected from


@dataclass(frozen=True)
class Layout:
    """How one format is recognised and read. `columns` says in words what it looks like."""

    columns: str
    fits: Callable[[Mapping[str, Any]], bool]
    parse: Callable[[Mapping[str, Any]], Reading]


LAYOUTS: dict[Format, Layout] = {
    "glaive": Layout("system and chat (text)", glaive.fits, glaive.parse_row),
    "openai": Layout("messages with role and content, tools", openai.fits, openai.parse_row),
    "sharegpt": Layout(
        "conversations with from (human, gpt, function_call, observation) and value, tools",
        sharegpt.fits,
        sharegpt.parse_row,
    ),
    "hermes": Layout(
        "conversations with from and value, calls as <tool_call> text",
        hermes.fits,
        hermes.parse_row,
    ),
    "xlam": Layout("query, tools and answers", xlam.fits, xlam.parse_row),
}


def parse_row(row: Mapping[str, Any], format: Format) -> Reading:
    """Read one row of a known format. Raises RowError for a row that cannot be read."""
    try:
        return LAYOUTS[format].parse(row)
    except RecursionError as error:
        raise RowError("columns", "nested too deeply") from error


def fitting(row: Mapping[str, Any]) -> frozenset[Format]:
    """The formats that the row's columns and turns could be."""
    return frozenset(name for name, layout in LAYOUTS.items() if layout.fits(row))


def detect(name: str, rows: Iterable[Mapping[str, Any]]) -> Format:
    """The one format that the rows have; rows that fit none are left out of the decision.

    A conversation without calls is the same in ShareGPT's and in Hermes' layout; where all rows are
    like that, it is read as ShareGPT. Raises DataError, which calls the data set `name`.
    """
    candidates: frozenset[Format] = frozenset(FORMATS)
    seen = False
    first: Mapping[str, Any] = {}
    for row in rows:
        first = first or row
        found = fitting(row)
        if not found:
            continue
        if not candidates & found:
            raise DataError(
                f"{name}: rows of more than one format ({', '.join(sorted(candidates))}, and then "
                f"{', '.join(sorted(found))}). Split it, or force one with data_format: rows of "
                "the other are then counted as rejects"
            )
        candidates, seen = candidates & found, True
    if not seen:
        raise DataError(
            f"{name}: the rows fit no known format. The first has {_described(first)}. Known are:\n"
            + "\n".join(f"  {known}: {layout.columns}" for known, layout in LAYOUTS.items())
            + "\nIf it is one of these, force it with data_format to see what is wrong in each row"
        )
    return next(known for known in FORMATS if known in candidates)


def _described(row: Mapping[str, Any]) -> str:
    columns = ", ".join(f"{short(str(key), 30)} ({type(row[key]).__name__})" for key in row)
    return f"the columns {short(columns, 300)}" if columns else "no columns"
