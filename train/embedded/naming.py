"""Other names for the functions and parameters of training rows.

A short run would learn sixty names by heart. Since the same function is called otherwise in every
conversation, the only way to name it rightly is to read the tools that are offered.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from train.embedded.schema import Function, Param

VERBS = {
    "get": ("fetch", "lookup", "retrieve", "check", "show"),
    "list": ("show", "get", "all"),
    "search": ("find", "query", "lookup"),
    "find": ("search", "query", "locate"),
    "create": ("make", "add", "new"),
    "delete": ("remove", "cancel", "drop"),
    "set": ("change", "update", "adjust"),
    "send": ("deliver", "dispatch", "submit"),
    "book": ("reserve", "order", "arrange"),
    "order": ("buy", "request", "purchase"),
    "control": ("switch", "manage", "toggle"),
    "calculate": ("compute", "estimate"),
    "play": ("start", "queue"),
}
PARAMS = {
    "city": ("location", "town", "place"),
    "date": ("day", "on_date", "when"),
    "time": ("at", "start_time", "hour"),
    "title": ("name", "label", "heading"),
    "text": ("content", "message", "body"),
    "name": ("label", "title"),
    "query": ("term", "search", "keywords"),
    "amount": ("value", "sum"),
    "quantity": ("count", "number", "units"),
    "minutes": ("duration", "length_minutes"),
    "room": ("area", "zone"),
    "file": ("filename", "document"),
    "people": ("persons", "users"),
    "currency": ("currency_code",),
    "word": ("term", "vocable"),
    "address": ("destination", "deliver_to"),
}
NOUNS = ("api", "tool", "service", "v2", "action", "assistant")


@dataclass(frozen=True)
class Names:
    """What a conversation calls one function and its parameters."""

    function: str
    params: dict[str, str] = field(default_factory=dict)

    def arguments(self, values: dict[str, Any]) -> dict[str, Any]:
        """Arguments under these names."""
        return {self.params.get(key, key): value for key, value in values.items()}

    def schema(self, params: Sequence[Param]) -> tuple[Param, ...]:
        """Parameters under these names."""
        return tuple(replace(p, name=self.params.get(p.name, p.name)) for p in params)


def other_names(function: Function, rng: random.Random) -> Names:
    """Names for one conversation: mostly the catalogue's own."""
    if rng.random() < 0.75:
        return Names(function.name)
    words = function.name.split("_")
    words[0] = rng.choice((words[0], *VERBS.get(words[0], ())))
    if rng.random() < 0.25:
        words.insert(rng.choice((0, len(words))), rng.choice((*NOUNS, function.domain)))
    camel = rng.random() < 0.25
    params: dict[str, str] = {}
    for param in function.params:
        name = rng.choice((param.name, *PARAMS.get(param.name, ())))
        taken = {*params.values(), *(p.name for p in function.params)}
        params[param.name] = param.name if name in taken else name
    if camel:
        params = {key: _camel(name.split("_")) for key, name in params.items()}
    return Names(_camel(words) if camel else "_".join(words), params)


def _camel(words: list[str]) -> str:
    return words[0] + "".join(word.capitalize() for word in words[1:])
