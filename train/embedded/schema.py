"""The vocabulary in which the embedded data set's functions are described."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["string", "integer", "number", "boolean", "enum", "array", "object"]


@dataclass(frozen=True)
class Param:
    """One parameter. `values` names a pool (string, array items) or lists the enum's members;
    `low`..`high` bounds numbers; `fields` are an object's own parameters."""

    name: str
    kind: Kind
    about: str
    values: str | tuple[str, ...] = ()
    low: float = 1
    high: float = 10
    fields: tuple[Param, ...] = ()
    optional: bool = False

    def json_schema(self) -> dict[str, Any]:
        """The parameter as JSON Schema."""
        if self.kind == "enum":
            return {"type": "string", "enum": list(self.values), "description": self.about}
        if self.kind == "array":
            return {"type": "array", "items": {"type": "string"}, "description": self.about}
        if self.kind == "object":
            return object_schema(self.fields)
        return {"type": self.kind, "description": self.about}


@dataclass(frozen=True)
class Function:
    """One function of the catalogue.

    `asks` are user wordings: `{city}` is a value, `[ for {days} days]` a part that is there when its
    optional parameters are, `[ urgently?urgent]` one that is there when the boolean is true. The
    last wording is kept for the held-out rows. `missing` maps a required parameter to a wording
    that leaves it out. `result` holds what the function returns: pool names, ranges or constants;
    `answer` is what the assistant makes of it.
    """

    name: str
    domain: str
    about: str
    params: tuple[Param, ...]
    asks: tuple[str, ...]
    result: dict[str, Any]
    answer: str
    missing: dict[str, str] = field(default_factory=dict)

    def json_schema(self) -> dict[str, Any]:
        """The `parameters` of the function as JSON Schema."""
        return object_schema(self.params)


@dataclass(frozen=True)
class Chain:
    """A request that takes two calls: `second`'s parameters in `feeds` come from `first`'s result."""

    first: str
    second: str
    feeds: dict[str, str]
    asks: tuple[str, ...]


def object_schema(params: tuple[Param, ...]) -> dict[str, Any]:
    """JSON Schema of an object with these parameters."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {param.name: param.json_schema() for param in params},
    }
    required = [param.name for param in params if not param.optional]
    if required:
        schema["required"] = required
    return schema


def text(name: str, about: str, pool: str, *, optional: bool = False) -> Param:
    """A string parameter whose values come from a pool."""
    return Param(name, "string", about, pool, optional=optional)


def integer(
    name: str, about: str, low: int = 1, high: int = 20, *, optional: bool = False
) -> Param:
    """A whole number in low..high."""
    return Param(name, "integer", about, low=low, high=high, optional=optional)


def number(
    name: str, about: str, low: float = 1, high: float = 500, *, optional: bool = False
) -> Param:
    """A decimal number in low..high."""
    return Param(name, "number", about, low=low, high=high, optional=optional)


def choice(name: str, about: str, *values: str, optional: bool = False) -> Param:
    """One of the given strings."""
    return Param(name, "enum", about, values, optional=optional)


def flag(name: str, about: str) -> Param:
    """A boolean, left out unless the wording asks for it."""
    return Param(name, "boolean", about, optional=True)


def listing(name: str, about: str, pool: str, *, optional: bool = False) -> Param:
    """An array of one to three strings from a pool."""
    return Param(name, "array", about, pool, optional=optional)


def group(name: str, about: str, *fields: Param, optional: bool = False) -> Param:
    """A nested object."""
    return Param(name, "object", about, fields=fields, optional=optional)
