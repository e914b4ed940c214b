"""Good rows of every layout, to start from when they are bent."""

from __future__ import annotations

import json
from typing import Any

from train.data import Format

_CALL = {"name": "weather", "arguments": {"city": "Coeur d'Alene", "days": [1, {"a": None}]}}
_QUOTED = (
    """{"name": "weather", "arguments": '{"city": "Coeur d'Alene", "days": [1, {"a": null}]}'}"""
)
_FUNCTION = {
    "name": "weather",
    "description": "The weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "array"}},
        "required": ["city"],
    },
}
_TOOLS = json.dumps([_FUNCTION])

GOOD: dict[Format, dict[str, Any]] = {
    "glaive": {
        "system": "SYSTEM: You are a helpful assistant with access to the following functions. "
        "Use them if required -\n" + json.dumps(_FUNCTION, indent=4) + "\n",
        "chat": "USER: Both?\n\n\nASSISTANT: Yes. <|endoftext|>\n\n\n"
        f"ASSISTANT: <functioncall> {_QUOTED} <functioncall> {json.dumps(_CALL)} <|endoftext|>"
        "\n\n\nFUNCTION RESPONSE: {}\n\n\nFUNCTION RESPONSE: 2\n\n\nASSISTANT: a <|endoftext|>\n\n",
    },
    "openai": {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "s"}]},
            {"role": "user", "content": "u"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": _CALL},
                    {
                        "id": "2",
                        "type": "function",
                        "function": {**_CALL, "arguments": json.dumps(_CALL["arguments"])},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "2", "content": "two"},
            {"role": "tool", "tool_call_id": "1", "content": "one"},
            {"role": "assistant", "content": "a"},
        ],
        "tools": [{"type": "function", "function": _FUNCTION}],
    },
    "sharegpt": {
        "system": "s",
        "conversations": [
            {"from": "human", "value": "u"},
            {"from": "gpt", "value": "Wait."},
            {"from": "function_call", "value": json.dumps([_CALL, _CALL])},
            {"from": "observation", "value": '["one", 2]'},
            {"from": "gpt", "value": "a"},
        ],
        "tools": _TOOLS,
    },
    "hermes": {
        "conversations": [
            {"from": "system", "value": f"Here are the available tools: <tools>{_TOOLS}</tools> s"},
            {"from": "human", "value": "u"},
            {
                "from": "gpt",
                "value": f"Wait. <tool_call>\n{_CALL!r}\n</tool_call>\n"
                f"<tool_call>{json.dumps(_CALL)}</tool_call>",
            },
            {
                "from": "tool",
                "value": "<tool_response>{'name': 'weather', 'content': [1]}</tool_response>"
                "<tool_response>two</tool_response>",
            },
            {"from": "gpt", "value": "a"},
        ],
        "tools": _TOOLS,
    },
    "xlam": {
        "query": "u",
        "tools": json.dumps(
            [
                {
                    "name": "weather",
                    "parameters": {
                        "city": {"type": "str", "description": "d"},
                        "days": {"type": "List[Optional[int]], optional", "default": []},
                    },
                }
            ]
        ),
        "answers": json.dumps([_CALL, _CALL]),
    },
}

# What the layouts are made of.
SIGNS = (
    "USER: ", "ASSISTANT: ", "FUNCTION RESPONSE: ", "SYSTEM: ", "\n\n\n", "<|endoftext|>",
    "<functioncall>", "<tool_call>", "</tool_call>", "<tools>", "</tools>", "<tool_response>",
    "</tool_response>", '{"name": "weather", "arguments": ', "'{", "}'", "'", '"', "\\", "\\'",
    "\\u", "{", "}", "[", "]", ",", ":", "List[", "Optional[", ", optional", "\ud800", "東", "\0",
)  # fmt: skip
NAMES = (
    "system", "chat", "messages", "conversations", "tools", "functions", "query", "answers", "role",
    "content", "from", "value", "tool_calls", "function_call", "function", "name", "arguments",
    "parameters", "type", "properties", "id", "tool_call_id", "weight", "refusal", "text",
)  # fmt: skip
ROLES = (
    "system", "developer", "user", "assistant", "tool", "function", "human", "gpt",
    "function_call", "observation", "object", "dict", "text", "str",
)  # fmt: skip
