"""The fixed set of conversations whose prompts must be equal in every engine, token for token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIXED_SET = Path(__file__).parent / "prompts.json"


@dataclass(frozen=True)
class Prompt:
    """A conversation as an OpenAI client sends it: arguments are JSON text, results have ids.

    None ends with the assistant's turn: llama.cpp would continue such a turn.
    """

    name: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]

    def for_template(self) -> list[dict[str, Any]]:
        """The messages as every engine hands them to the template: arguments as objects."""
        return [_parsed(message) for message in self.messages]


def fixed_set() -> list[Prompt]:
    """All of them, in the order of the file."""
    return [Prompt(**raw) for raw in json.loads(FIXED_SET.read_text(encoding="utf-8"))]


def _parsed(message: dict[str, Any]) -> dict[str, Any]:
    if "tool_calls" not in message:
        return message
    calls = [
        call
        | {"function": call["function"] | {"arguments": json.loads(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return message | {"tool_calls": calls}
