"""Functions as data sets describe them → tools with a JSON Schema.

A function is `{"name", "description", "parameters"}`, bare or inside OpenAI's
`{"type": "function", "function": …}`. Other keys (`returns`, `strict`) are dropped: `Tool` has no
place for them. Parameters are a JSON Schema of type object, or a flat map of parameter names as in
xLAM, which is turned into one. What is neither is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from train.data.calls import json_or_literal
from train.data.errors import RowError, short
from train.data.strict_json import check, decode_at, is_unicode
from train.messages import Tool

_BETWEEN = re.compile(r"[\s,]*")
_OBJECT = ("object", "dict")  # `dict` is how Gorilla's and ToolACE's rows write it

# Python's names of types, as xLAM's rows have them.
_TYPES = {
    "str": "string", "string": "string", "text": "string",
    "int": "integer", "integer": "integer",
    "float": "number", "number": "number", "double": "number",
    "bool": "boolean", "boolean": "boolean",
    "list": "array", "array": "array", "tuple": "array", "set": "array",
    "dict": "object", "object": "object",
}  # fmt: skip
_GENERIC = re.compile(r"(?P<outer>\w+)\s*\[(?P<inner>.*)\]", re.DOTALL)


def tools_in_text(text: str) -> tuple[Tool, ...]:
    """Functions that stand one after the other as JSON objects, or as one list. Raises RowError."""
    if not is_unicode(text):
        raise RowError("functions", "the functions hold half of a surrogate pair")
    return tools(_values(text))


def tools_in_column(value: Any, column: str) -> tuple[Tool, ...]:
    """Functions of a column: a list, its JSON text, or nothing at all. Raises RowError."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tools_in_text(value)
    if not isinstance(value, list):
        raise RowError("columns", f"column {column!r} holds {type(value).__name__}, not a list")
    try:
        check(value)
    except ValueError as error:
        raise RowError("functions", f"column {column!r}: {error}") from error
    return tools(value)


def tools(entries: Iterable[Any]) -> tuple[Tool, ...]:
    """Functions from decoded JSON. Raises RowError."""
    return tuple(_tool(entry) for entry in entries)


def _values(text: str) -> Iterator[Any]:
    at, count = _skip(text, 0), 0
    while at < len(text):
        count += 1
        try:
            value, at = _value(text, at, whole=count == 1)
        except ValueError as error:
            raise RowError(
                "functions", f"function {count} is not JSON ({error}): {short(text[at:])}"
            ) from error
        at = _skip(text, at)
        if isinstance(value, list):
            yield from value
        else:
            yield value


def _value(text: str, at: int, *, whole: bool) -> tuple[Any, int]:
    """A JSON value and where it ends; where `whole`, a Python literal that is all of the text."""
    try:
        return decode_at(text, at)
    except ValueError:
        if not whole:
            raise
        return json_or_literal(text[at:].rstrip()), len(text)


def _skip(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _tool(entry: Any) -> Tool:
    """A function as the row describes it; a missing schema means that it takes no arguments."""
    function = entry
    if isinstance(entry, dict) and "name" not in entry and isinstance(entry.get("function"), dict):
        function = entry["function"]
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise RowError("functions", f"a function without a name: {short(json.dumps(entry))}")
    description = function.get("description")
    if description is None:
        description = ""
    if not isinstance(description, str):
        raise RowError("functions", f"the description of {short(name)} is not text")
    parameters = function.get("parameters")
    if parameters in (None, {}, []):  # an empty list is how PHP writes an empty object
        return Tool(name=name, description=description)
    if not isinstance(parameters, dict):
        raise RowError("functions", f"the parameters of {short(name)} are not a JSON object")
    try:
        schema = _schema(parameters)
    except ValueError as error:
        raise RowError("functions", f"the parameters of {short(name)}: {error}") from error
    return Tool(name=name, description=description, parameters=schema)


def _schema(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters as JSON Schema of type object; one that is already comes back as it is."""
    kind = parameters.get("type")
    properties = parameters.get("properties")
    if kind == "object" and isinstance(properties, dict):
        return parameters
    if _is_flat(parameters):
        return flat_schema(parameters)
    if kind is None and isinstance(properties, dict):
        kind = "object"
    if not isinstance(kind, str) or kind.lower() not in _OBJECT:
        raise ValueError("not a JSON Schema of type object, nor a map of parameters")
    if properties is None and "properties" in parameters:
        properties = {}
    if properties is not None and not isinstance(properties, dict):
        raise ValueError("`properties` is not a JSON object")
    rest = {key: value for key, value in parameters.items() if key not in ("type", "properties")}
    return {"type": "object", **({} if properties is None else {"properties": properties}), **rest}


def _is_flat(parameters: dict[str, Any]) -> bool:
    """Whether every key is a parameter: a described thing with a type of its own."""
    return all(
        isinstance(each, dict) and isinstance(each.get("type"), str) for each in parameters.values()
    )


def flat_schema(parameters: dict[str, Any]) -> dict[str, Any]:
    """xLAM's map of parameters as JSON Schema.

    A parameter is optional where its type says so (`str, optional`, `Optional[str]`) or where it
    has a default. A type that has no counterpart (`Callable`) leaves the parameter without one:
    JSON Schema then allows any value.
    """
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, about in parameters.items():
        schema, optional = _type(about["type"])
        if about.get("required") is True:
            optional = False
        elif about.get("required") is False or "default" in about:
            optional = True
        properties[name] = schema | {
            key: value for key, value in about.items() if key not in ("type", "required")
        }
        if not optional:
            required.append(name)
    schema = {"type": "object", "properties": properties}
    return schema | ({"required": required} if required else {})


def _type(text: str) -> tuple[dict[str, Any], bool]:
    """A type as JSON Schema, and whether it says that the parameter is optional."""
    base, *marks = (part.strip() for part in _split(text))
    optional = any(mark.lower() == "optional" or mark.startswith("default") for mark in marks)
    found = _GENERIC.fullmatch(base)
    if not found:
        kind = _TYPES.get(base.lower())
        return ({"type": kind} if kind else {}), optional
    outer, inner = found["outer"].lower(), found["inner"]
    if outer == "optional":
        return _type(inner)[0], True
    if outer in ("list", "array", "set", "sequence"):
        item = _type(inner)[0]
        return {"type": "array"} | ({"items": item} if item else {}), optional
    kind = _TYPES.get(outer)
    return ({"type": kind} if kind else {}), optional


def _split(text: str) -> list[str]:
    """The parts between commas that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]
