"""The typed form of a conversation: what readers produce and templates render.

It is the shape of OpenAI's chat completions, so that a row, a request and an answer are one thing.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant", "tool"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolCall(_Frozen):
    """One call: the function's name and its arguments as a JSON object."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class Tool(_Frozen):
    """A function that the model may call; `parameters` is a JSON Schema of type object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})

    def openai(self) -> dict[str, Any]:
        """The entry of OpenAI's `tools` list; its key order is what the template prints."""
        return {"type": "function", "function": self.model_dump()}


class Message(_Frozen):
    """One turn. An assistant's turn may hold text, calls, or both; a tool's holds one result."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def openai(self, call_ids: list[str] | None = None) -> dict[str, Any]:
        """The entry of OpenAI's `messages` list (arguments as JSON text, as clients do)."""
        if not self.tool_calls:
            return {"role": self.role, "content": self.content}
        ids = call_ids or [f"call_{i}" for i in range(len(self.tool_calls))]
        return {
            "role": self.role,
            "content": self.content or None,
            "tool_calls": [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": json.dumps(call.arguments, ensure_ascii=False),
                    },
                }
                for call_id, call in zip(ids, self.tool_calls, strict=True)
            ],
        }


class Conversation(_Frozen):
    """A whole row: the tools offered and the turns taken."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
