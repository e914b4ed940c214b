"""JSON as data sets hold it: lenient about raw newlines in strings, strict about all the rest.

Python's own reader accepts NaN, numbers beyond a float, halves of surrogate pairs and any depth;
a tokenizer, a template or a client would fail on them later, far from the row they came from.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 64  # levels of nesting


def decode_at(text: str, at: int) -> tuple[Any, int]:
    """The JSON value that starts at `at`, and where it ends. Raises ValueError."""
    try:
        value, end = _DECODER.raw_decode(text, at)
    except RecursionError as error:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from error
    # Counting brackets is cheap and settles nearly every row without a walk.
    brackets = text.count("{", at, end) + text.count("[", at, end)
    if brackets > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if "\\u" in text and not is_unicode(json.dumps(value, ensure_ascii=False)):
        raise ValueError("holds half of a surrogate pair")
    return value, end


def decode(text: str) -> Any:
    """The JSON value that is the whole text. Raises ValueError."""
    start = len(text) - len(text.lstrip(" \t\r\n"))
    value, end = decode_at(text, start)
    if text[end:].strip(" \t\r\n"):
        raise ValueError(f"more text after the JSON, at character {end}")
    return value


def is_unicode(text: str) -> bool:
    """Whether the text can be encoded at all (a lone half of a surrogate pair cannot)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _deeper_than(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(each, levels - 1) for each in inner)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


# strict=False takes raw control characters in strings: they can only mean themselves.
_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse, parse_float=_finite)
