"""JSON as data sets hold it: lenient about raw newlines in strings, strict about all the rest.

Python's own reader, which does the work here, accepts NaN, numbers beyond a float, halves of
surrogate pairs and any depth; a tokenizer, a template or a client would fail on them later, far
from the row they came from.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 64  # levels of nesting
BLANK = " \t\r\n"  # JSON's white space


def decode_at(text: str, at: int) -> tuple[Any, int]:
    """The JSON value that starts at `at`, and where it ends; the text must be valid Unicode.

    Raises ValueError.
    """
    value, end = _read(_STRICT, text, at)
    # Counting brackets is cheap and settles nearly every row without a walk.
    brackets = text.count("{", at, end) + text.count("[", at, end)
    if brackets > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if "\\u" in text and not is_unicode(json.dumps(value, ensure_ascii=False)):
        raise ValueError("holds half of a surrogate pair")
    return value, end


def decode(text: str) -> Any:
    """The JSON value that is the whole text. Raises ValueError."""
    if not is_unicode(text):
        raise ValueError("holds half of a surrogate pair")
    start = len(text) - len(text.lstrip(BLANK))
    value, end = decode_at(text, start)
    if text[end:].strip(BLANK):
        raise ValueError(f"more text after the JSON, at character {end + 1}")
    return value


def plain_at(text: str, at: int) -> tuple[Any, int]:
    """As decode_at, but takes all that Python takes: for the rows, whose columns are not looked at.

    Raises ValueError.
    """
    return _read(_PLAIN, text, at)


def check(value: Any) -> None:
    """Hold a value that is decoded already to what decode_at gives. Raises ValueError."""
    _check(value, MAX_DEPTH)


def is_unicode(text: str) -> bool:
    """Whether the text can be encoded at all (a lone half of a surrogate pair cannot)."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read(decoder: json.JSONDecoder, text: str, at: int) -> tuple[Any, int]:
    try:
        return decoder.raw_decode(text, at)
    except json.JSONDecodeError as error:
        # Its own message counts lines of a text that the reader of the message does not see.
        raise ValueError(f"{error.msg} at character {error.pos - at + 1}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _deeper_than(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(each, levels - 1) for each in inner)


def _check(value: Any, levels: int) -> None:
    if isinstance(value, str):
        if not is_unicode(value):
            raise ValueError("holds half of a surrogate pair")
    elif isinstance(value, dict | list):
        if levels == 0:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise ValueError(f"a key is {type(key).__name__}, not text")
                _check(key, levels)
            value = value.values()
        for each in value:
            _check(each, levels - 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not JSON")
    elif not (value is None or isinstance(value, int)):
        raise ValueError(f"{type(value).__name__} is not JSON")
    elif isinstance(value, int) and not -(10**_DIGITS) < value < 10**_DIGITS:
        # More cannot be written as text by Python's default, nor read again.
        raise ValueError("a number is too large")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


_DIGITS = 4000
# strict=False takes raw control characters in strings: they can only mean themselves.
_STRICT = json.JSONDecoder(strict=False, parse_constant=_refuse, parse_float=_finite)
_PLAIN = json.JSONDecoder(strict=False)
