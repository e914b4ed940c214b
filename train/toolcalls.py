"""Read the tool calls out of generated text, for evaluation and `infer`.

It accepts what vLLM's `hermes` parser accepts: JSON objects between <tool_call> marks.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from train.messages import ToolCall

CALL_BEGINS = "<tool_call>"
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>|<tool_call>(.*)", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """An assistant's turn: text before the first call, the calls, and whether all were readable."""

    content: str
    calls: tuple[ToolCall, ...]
    well_formed: bool


def parse_hermes(text: str) -> Answer:
    """Split generated text (special tokens removed) into content and calls."""
    calls: list[ToolCall] = []
    well_formed = True
    for closed, open_end in _CALL.findall(text):
        try:
            raw = json.loads(closed or open_end)
            calls.append(ToolCall(name=raw["name"], arguments=raw["arguments"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            well_formed = False
    content = text.split("<tool_call>", 1)[0].strip()
    return Answer(content, tuple(calls), well_formed)
