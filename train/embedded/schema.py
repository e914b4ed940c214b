"""The embedded data set's functions and values, as catalogue.yaml and pools.yaml describe them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

import yaml

Kind = Literal["string", "integer", "number", "boolean", "enum", "array", "object"]
T = TypeVar("T")


@dataclass(frozen=True)
class Sides(Generic[T]):
    """What training rows draw from, and what held-out rows draw from instead."""

    train: tuple[T, ...]
    held_out: tuple[T, ...]

    def of(self, held_out: bool) -> tuple[T, ...]:
        """The side for a row."""
        return self.held_out if held_out else self.train


@dataclass(frozen=True)
class Param:
    """One parameter.

    `values` names a pool (string) or lists the enum's members; `low`..`high` bounds numbers;
    `fields` are an object's own parameters, `items` is what an array holds.
    """

    name: str
    kind: Kind
    about: str
    values: str | tuple[str, ...] = ()
    low: float = 1
    high: float = 10
    fields: tuple[Param, ...] = ()
    items: Param | None = None
    optional: bool = False

    def json_schema(self) -> dict[str, Any]:
        """The parameter as JSON Schema."""
        schema: dict[str, Any]
        if self.kind == "object":
            return object_schema(self.fields)
        if self.kind == "enum":
            schema = {"type": "string", "enum": list(self.values)}
        elif self.items:
            schema = {"type": "array", "items": self.items.json_schema()}
        else:
            schema = {"type": self.kind}
        return schema | ({"description": self.about} if self.about else {})


@dataclass(frozen=True)
class Function:
    """One function; catalogue.yaml says what its fields hold."""

    name: str
    domain: str
    about: str
    params: tuple[Param, ...]
    asks: Sides[str]
    result: dict[str, Any]
    answer: str
    also: tuple[str, ...] = ()
    missing: dict[str, Sides[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Chain:
    """A request for two calls: `feeds` maps parameters of `second` to keys of `first`'s result."""

    first: str
    second: str
    feeds: dict[str, str]
    asks: Sides[str]


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


def param(name: str, spec: dict[str, Any]) -> Param:
    """A parameter from its entry in catalogue.yaml: the first key is its kind."""
    kind, source = next(iter(spec.items()))
    optional = bool(spec.get("optional")) or kind == "boolean"
    built = Param(name, cast(Kind, kind), spec.get("about", ""), optional=optional)
    if kind in ("integer", "number"):
        return replace(built, low=source[0], high=source[1])
    if kind == "object":
        return replace(built, fields=tuple(param(key, inner) for key, inner in source.items()))
    if kind == "array":
        items = source if isinstance(source, dict) else {"string": source}
        return replace(built, items=param("", items))
    if kind == "enum":
        return replace(built, values=tuple(source))
    return replace(built, values=source or ())


def split(members: Sequence[T]) -> Sides[T]:
    """Every fifth member for the held-out rows, at least one: by hash, so that nobody chose it."""
    ranked = sorted(members, key=lambda member: hashlib.sha256(repr(member).encode()).digest())
    held_out = set(ranked[: max(1, len(ranked) // 5)])
    return Sides(
        tuple(member for member in members if member not in held_out),
        tuple(member for member in members if member in held_out),
    )


def _function(entry: dict[str, Any]) -> Function:
    asks = tuple(entry["asks"])
    # A function that is never trained on has only wordings that are new.
    unseen = entry["domain"] in UNSEEN_DOMAINS
    return Function(
        **{
            **entry,
            "asks": Sides(asks, asks) if unseen else split(asks),
            "params": tuple(param(name, spec) for name, spec in entry.get("params", {}).items()),
            "also": tuple(entry.get("also", ())),
            "missing": {name: split(given) for name, given in entry.get("missing", {}).items()},
        }
    )


def _read(name: str) -> Any:
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


_CATALOGUE = _read("catalogue.yaml")
UNSEEN_DOMAINS = frozenset(_CATALOGUE["unseen"])
FUNCTIONS = tuple(_function(entry) for entry in _CATALOGUE["functions"])
CHAINS = tuple(Chain(**{**entry, "asks": split(entry["asks"])}) for entry in _CATALOGUE["chains"])
POOLS: dict[str, tuple[str, ...]] = {
    name: tuple(values) for name, values in _read("pools.yaml").items()
}
