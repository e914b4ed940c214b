"""Rows of glaive-function-calling-v2, read into typed conversations and written back.

The layout (https://huggingface.co/datasets/glaiveai/glaive-function-calling-v2) has two text
columns.

`system`: `SYSTEM: `, one of two fixed sentences, and the functions as JSON objects in a row.
`chat`: turns that start with `USER: `, `ASSISTANT: ` or `FUNCTION RESPONSE: `, at the start, after
two empty lines, or right after an end mark. An assistant's turn ends with `<|endoftext|>`; a call
in it looks like `<functioncall> {"name": "f", "arguments": '{"a": 1}'}` (see train.data.calls).

What is dropped, because a served model would never see it:
- The fixed sentences. They only say whether there are functions, and the chat template says that in
  its own words, from `Conversation.tools`. So a row without functions has no system message, as a
  request without a system prompt has none. Any other system text is kept as a system message.
- Keys of a function besides name, description and parameters (such as `returns`): OpenAI's `tools`
  has no place for them.

A row that cannot be read with certainty is refused (`RowError`), never repaired by guessing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from train.data.calls import calls_in_text
from train.data.errors import Doubt, RowError, short
from train.data.functions import tools_in_text
from train.data.strict_json import BLANK, is_unicode
from train.data.turns import Reading, Turns, reading
from train.messages import Conversation, Message, Tool, ToolCall

WITH_FUNCTIONS = (
    "You are a helpful assistant with access to the following functions. Use them if required -"
)
NO_FUNCTIONS = "You are a helpful assistant, with no access to external functions."
CALL, CALL_END = "<functioncall>", "</functioncall>"
END = "<|endoftext|>"

_WITH_FUNCTIONS = re.compile(
    r"You are a helpful assistant,? with access to the following functions\. "
    r"Use them if required ?-?"
)
_NO_FUNCTIONS = re.compile(r"You are a helpful assistant,? with no access to external functions\.?")
_ROLE = r"(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE):"
# Text that only quotes a marker (`USER: ` on a line of its own) stands after fewer empty lines.
_MARKER = re.compile(r"\n[ \t\r]*\n[ \t\r]*\n" + _ROLE)
_AFTER_END = re.compile(re.escape(END) + rf"\s*(?={_ROLE})")


def fits(row: Mapping[str, Any]) -> bool:
    """Whether the row has this layout's columns."""
    return isinstance(row.get("chat"), str) and "system" in row


def parse_row(row: Mapping[str, Any]) -> Reading:
    """Read one row (columns `system` and `chat`; others are ignored).

    Turns lose spaces, tabs and newlines at both ends. An assistant's text and the calls in the
    assistant turn right after it are one message: that is how a served model gives them. Raises
    RowError.
    """
    system, chat = _column(row, "system"), _column(row, "chat")
    text, tools = _parse_system(system)
    turns, doubts = _parse_chat(chat)
    if text:
        turns.messages.insert(0, Message(role="system", content=text))
    return reading(turns.messages, tools, doubts)


def write_row(conversation: Conversation) -> dict[str, str]:
    """Write a conversation as a row, so that `parse_row(write_row(c)).conversation == c`.

    Raises RowError("inexpressible", …) for what the layout cannot hold:
    - text with white space at its ends, or empty (only a tool's result may be empty);
    - text that holds a turn's marker after two empty lines (`\\n\\n\\nASSISTANT:`) or
      `<|endoftext|>`, or, from an assistant, `<functioncall>`;
    - a system text that holds one of the fixed sentences;
    - a system message anywhere but first; calls in a message right after the assistant's text;
    - values that JSON does not have (NaN, sets);
    - parameters that are not a JSON Schema of type object, and no assistant at all.
    """
    messages = conversation.messages
    text = messages[0].content if messages and messages[0].role == "system" else ""
    turns = messages[1:] if text else messages
    try:
        row = {
            "system": _write_system(text, conversation.tools),
            "chat": "\n\n\n".join(_write_turn(message) for message in turns) + "\n\n\n\n",
        }
        # Reading it back is the proof, and simpler than a rule for each thing that can go wrong.
        back = parse_row(row).conversation
    except (RowError, TypeError, ValueError, RecursionError) as error:
        raise RowError("inexpressible", f"{error}") from error
    if back != conversation:
        raise RowError("inexpressible", _difference(conversation, back))
    return row


def _column(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        what = "is missing" if name not in row else f"holds {type(value).__name__}, not text"
        raise RowError("columns", f"column {name!r} {what}")
    if not is_unicode(value):
        raise RowError("columns", f"column {name!r} holds half of a surrogate pair")
    return value


def _parse_system(system: str) -> tuple[str, tuple[Tool, ...]]:
    """The system text that is the row's own, and the functions."""
    system = system.strip(BLANK).removeprefix("SYSTEM:").strip(BLANK)
    if found := _WITH_FUNCTIONS.search(system):
        return system[: found.start()].strip(BLANK), tools_in_text(system[found.end() :])
    if found := _NO_FUNCTIONS.search(system):
        around = (system[: found.start()].strip(BLANK), system[found.end() :].strip(BLANK))
        return "\n".join(part for part in around if part), ()
    return system, ()


def _parse_chat(chat: str) -> tuple[Turns, tuple[Doubt, ...]]:
    start = "\n\n\n"
    parts = _MARKER.split(start + _AFTER_END.sub(END + start, chat.strip(BLANK)))
    if parts[0] or len(parts) == 1:
        before = short(parts[0].removeprefix(start))
        raise RowError("turns", f"the chat does not start with a turn: {before}")
    turns, doubts = Turns(), []
    last = len(parts) // 2
    for number, (role, raw) in enumerate(zip(parts[1::2], parts[2::2], strict=True), start=1):
        where = f"turn {number} ({role})"
        text = raw.strip(BLANK)
        ended = False
        while role == "ASSISTANT" and text.endswith(END):
            text, ended = text.removesuffix(END).rstrip(BLANK), True
        if END in text:
            raise RowError("unterminated", f"{where} holds {END} inside its text")
        if role == "SYSTEM":
            raise RowError("turns", f"{where} stands inside the chat")
        if role == "FUNCTION RESPONSE":
            turns.add("tool", text)
        elif role == "USER":
            turns.add("user", text)
        else:
            said, calls = _parse_answer(text)
            turns.add_assistant(said, calls)
            # A following turn ends it as well, and so does the last brace of a call.
            if number == last and text and not ended and not calls:
                doubts.append(Doubt("cut-off", f"{where} is the last and lacks {END}"))
    return turns, tuple(doubts)


def _parse_answer(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    said, *segments = text.split(CALL)
    calls: list[ToolCall] = []
    for segment in segments:
        calls += calls_in_text(segment.strip(BLANK).removesuffix(CALL_END))
    return said.rstrip(BLANK), tuple(calls)


def _write_system(text: str, tools: tuple[Tool, ...]) -> str:
    prefix = f"SYSTEM: {text}\n" if text else "SYSTEM: "
    if not tools:
        return f"{prefix}{NO_FUNCTIONS}\n"
    functions = (_dumps(tool.model_dump(), indent=4) for tool in tools)
    return f"{prefix}{WITH_FUNCTIONS}\n" + "\n\n".join(functions) + "\n"


def _write_turn(message: Message) -> str:
    if message.role == "user":
        return f"USER: {message.content}"
    if message.role == "tool":
        return f"FUNCTION RESPONSE: {message.content}"
    if message.role == "system":
        raise ValueError("a system message can only be the first, with some text")
    calls = (
        f'{CALL} {{"name": {_dumps(call.name)}, "arguments": \'{_dumps(call.arguments)}\'}}'
        for call in message.tool_calls
    )
    return f"ASSISTANT: {' '.join(filter(None, (message.content, *calls)))} {END}"


def _dumps(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _difference(wanted: Conversation, back: Conversation) -> str:
    """Where the row would read as something else."""
    if wanted.tools != back.tools:
        return "the functions would be read back as others"
    pairs = zip(wanted.messages, back.messages, strict=False)
    for number, (one, other) in enumerate(pairs, start=1):
        if one != other:
            return f"message {number} ({one.role}) would be read back as {short(repr(other))}"
    return f"{len(wanted.messages)} messages would be read back as {len(back.messages)}"
