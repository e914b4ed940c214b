"""Wordings of catalogue.yaml and how values are put into them."""

from __future__ import annotations

import re
from typing import Any

# What ends a sentence; a wording that ends otherwise may end in a value.
ENDS = (".", "?", "!")
_OPTIONAL = re.compile(r"\[([^\]]*)\]")
SLOT = re.compile(r"\{([a-z_.]+)\}")
# A marked boolean part: `[ and notify them?notify]`.
_FLAG = re.compile(r"^(.*)\?([a-z_]+)$", re.DOTALL)


def fill(wording: str, values: dict[str, Any]) -> str:
    """A wording with its values."""
    return put(kept_parts(wording, values), values)


def kept_parts(wording: str, values: dict[str, Any]) -> str:
    """A wording whose bracketed parts stay where everything that they name is there."""

    def part(match: re.Match[str]) -> str:
        inner = match.group(1)
        flag = _FLAG.match(inner)
        if flag:
            return flag.group(1) if values.get(flag.group(2)) else ""
        slots = SLOT.findall(inner)
        return inner if all(_lookup(values, slot) is not None for slot in slots) else ""

    return _OPTIONAL.sub(part, wording)


def put(kept: str, values: dict[str, Any]) -> str:
    """Values in the slots of a wording without bracketed parts."""
    return SLOT.sub(lambda match: _spoken(_lookup(values, match.group(1))), kept)


def joined(before: str, kept: str, filled: str) -> str:
    """A filled wording as it goes on after `before`: in lower case after a comma, unless it starts
    with a value."""
    if not before.endswith(",") or kept.startswith(("{", "I ", "I'", "AQI", "BMI")):
        return filled
    return filled[0].lower() + filled[1:]


def _lookup(values: dict[str, Any], slot: str) -> Any:
    found: Any = values
    for key in slot.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _spoken(value: Any) -> str:
    """How a person writes a value: `a, b and c` for a list, the plain text of anything else."""
    if isinstance(value, list):
        said = [str(item) for item in value]
        return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
    return str(value)
