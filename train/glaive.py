"""Rows of glaive-function-calling-v2, read into typed conversations and written back.

The layout (https://huggingface.co/datasets/glaiveai/glaive-function-calling-v2) has two text
columns.

`system`: `SYSTEM: `, one of two fixed sentences, and the functions as JSON objects in a row.
`chat`: turns that start with `USER: `, `ASSISTANT: ` or `FUNCTION RESPONSE: ` and are parted by two
empty lines. An assistant's turn ends with `<|endoftext|>`; a call in it looks like
`<functioncall> {"name": "f", "arguments": '{"a": 1}'}`, where the arguments are JSON between single
quotes and apostrophes inside them are usually not escaped.

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
from typing import Any, Literal, get_args

from train.messages import Conversation, Message, Tool, ToolCall
from train.strict_json import BLANK, decode, decode_at, is_unicode

Reason = Literal[
    "columns",  # system or chat is missing, not text, or not valid Unicode
    "functions",  # the functions in the system text are not readable JSON objects with a name
    "turns",  # text before the first marker, or turns in an order that makes no sense
    "empty-turn",  # a user or an assistant who says nothing
    "unterminated",  # <|endoftext|> is missing at the end or stands inside a turn
    "call",  # a call that is not {"name": …, "arguments": …} with a JSON object as arguments
    "unknown-function",  # a call to a function that the row does not offer
    "results",  # the number of results is not the number of calls
    "nothing-to-learn",  # no assistant turn
    "inexpressible",  # only from write_row: the layout cannot hold this conversation
]
REASONS: tuple[Reason, ...] = get_args(Reason)


class RowError(Exception):
    """A row that is not a readable conversation; `reason` is for counting, `detail` for reading."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


WITH_FUNCTIONS = (
    "You are a helpful assistant with access to the following functions. Use them if required -"
)
NO_FUNCTIONS = "You are a helpful assistant, with no access to external functions."
CALL = "<functioncall>"
END = "<|endoftext|>"

_WITH_FUNCTIONS = re.compile(
    r"You are a helpful assistant,? with access to the following functions\. "
    r"Use them if required ?-?"
)
_NO_FUNCTIONS = re.compile(r"You are a helpful assistant,? with no access to external functions\.?")
_MARKER = re.compile(r"(?:\A|\n\n\n)(USER|ASSISTANT|FUNCTION RESPONSE):")
_BETWEEN_FUNCTIONS = re.compile(r"[\s,]*")
_QUOTED_CALL = re.compile(
    r"""\{\s*"name"\s*:\s*(?P<name>"(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*"""
    r"""'(?P<arguments>.*)'\s*\}""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse_row(row: Mapping[str, Any]) -> Conversation:
    """Read one row (columns `system` and `chat`; others are ignored).

    Turns lose spaces, tabs and newlines at both ends. An assistant's text and the calls in the
    assistant turn right after it are one message: that is how a served model gives them. The last
    calls of a row may be without results. Raises RowError.
    """
    system, chat = _column(row, "system"), _column(row, "chat")
    text, tools = _parse_system(system)
    messages = _parse_chat(chat, {tool.name for tool in tools})
    if text:
        messages.insert(0, Message(role="system", content=text))
    return Conversation(messages=tuple(messages), tools=tools)


def write_row(conversation: Conversation) -> dict[str, str]:
    """Write a conversation as a row, so that `parse_row(write_row(c)) == c`.

    Raises RowError("inexpressible", …) for what the layout cannot hold:
    - text with white space at its ends, or empty (only a tool's result may be empty);
    - text that holds a turn's marker after two empty lines (`\\n\\n\\nASSISTANT:`) or
      `<|endoftext|>`, or, from an assistant, `<functioncall>`;
    - a system text that holds one of the fixed sentences;
    - a system message anywhere but first, and any order of turns that parse_row refuses;
    - a call to a function that is not offered; values that JSON does not have (NaN, sets);
    - parameters that are not a JSON Schema of type object.
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
        back = parse_row(row)
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
        return system[: found.start()].strip(BLANK), _parse_functions(system[found.end() :])
    if found := _NO_FUNCTIONS.search(system):
        around = (system[: found.start()].strip(BLANK), system[found.end() :].strip(BLANK))
        return "\n".join(part for part in around if part), ()
    return system, ()


def _parse_functions(text: str) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    at = _skip(text, 0)
    while at < len(text):
        try:
            value, at = decode_at(text, at)
        except ValueError as error:
            raise RowError(
                "functions", f"function {len(tools) + 1} is not JSON ({error}): {_short(text[at:])}"
            ) from error
        tools.append(_tool(value))
        at = _skip(text, at)
    return tuple(tools)


def _skip(text: str, at: int) -> int:
    found = _BETWEEN_FUNCTIONS.match(text, at)
    return found.end() if found else at


def _tool(value: Any) -> Tool:
    """A function as the row describes it; a missing schema means that it takes no arguments."""
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        raise RowError("functions", f"a function without a name: {_short(json.dumps(value))}")
    description = value.get("description")
    if description is None:
        description = ""
    about = _short(name)
    if not isinstance(description, str):
        raise RowError("functions", f"the description of {about} is not text")
    parameters = value.get("parameters")
    if parameters in (None, {}):
        return Tool(name=name, description=description)
    if not isinstance(parameters, dict):
        raise RowError("functions", f"the parameters of {about} are not a JSON object")
    if "type" not in parameters and isinstance(parameters.get("properties"), dict):
        parameters = {"type": "object", **parameters}
    if parameters.get("type") != "object":
        raise RowError(
            "functions", f"the parameters of {about} are not a JSON Schema of type object"
        )
    return Tool(name=name, description=description, parameters=parameters)


def _parse_chat(chat: str, known: set[str]) -> list[Message]:
    parts = _MARKER.split(chat.strip(BLANK))
    if parts[0] or len(parts) == 1:
        raise RowError("turns", f"the chat does not start with a turn: {_short(parts[0])}")
    messages: list[Message] = []
    waiting = 0  # calls without a result so far
    last = len(parts) // 2
    for number, (role, raw) in enumerate(zip(parts[1::2], parts[2::2], strict=True), start=1):
        text = raw.strip(BLANK)
        if role == "ASSISTANT":
            text = _without_end(text, number, is_last=number == last)
        if END in text:
            raise RowError("unterminated", f"turn {number} ({role}) holds {END} inside its text")
        if role == "FUNCTION RESPONSE":
            if not waiting:
                raise RowError("results", f"turn {number} is a result that no call asked for")
            waiting -= 1
            messages.append(Message(role="tool", content=text))
            continue
        if waiting:
            raise RowError("results", f"turn {number} ({role}) comes before {waiting} result(s)")
        if not text:
            raise RowError("empty-turn", f"turn {number} ({role}) is empty")
        if role == "USER":
            _append_user(messages, text, number)
        else:
            waiting = _append_assistant(messages, text, number, known)
    if waiting and not messages[-1].tool_calls:
        raise RowError("results", f"the chat ends before {waiting} result(s)")
    if not any(message.role == "assistant" for message in messages):
        raise RowError("nothing-to-learn", "the chat has no assistant turn")
    return messages


def _without_end(text: str, number: int, *, is_last: bool) -> str:
    """An assistant's text without its end mark.

    A following turn ends it as well; the last turn without the mark may have been cut off.
    """
    if text.endswith(END):
        return text.removesuffix(END).rstrip(BLANK)
    if is_last and text:
        raise RowError("unterminated", f"turn {number} (ASSISTANT) is the last and lacks {END}")
    return text


def _append_user(messages: list[Message], text: str, number: int) -> None:
    if messages and messages[-1].role == "user":
        raise RowError("turns", f"turn {number} (USER) follows a USER turn")
    messages.append(Message(role="user", content=text))


def _append_assistant(messages: list[Message], text: str, number: int, known: set[str]) -> int:
    """Append the turn and return how many results it waits for."""
    said, *segments = text.split(CALL)
    said = said.rstrip(BLANK)
    calls = tuple(_parse_call(segment.strip(BLANK), known) for segment in segments)
    if messages and messages[-1].role == "assistant":
        if said or not calls:
            raise RowError("turns", f"turn {number} (ASSISTANT) follows an ASSISTANT turn")
        said = messages.pop().content
    messages.append(Message(role="assistant", content=said, tool_calls=calls))
    return len(calls)


def _parse_call(text: str, known: set[str]) -> ToolCall:
    try:
        name, arguments = _call_parts(text)
    except ValueError as error:
        raise RowError("call", f"{error}: {_short(text)}") from error
    if name not in known:
        offered = ", ".join(sorted(known)) or "none"
        raise RowError("unknown-function", f"{_short(name)} is called; offered: {_short(offered)}")
    return ToolCall(name=name, arguments=arguments)


def _call_parts(text: str) -> tuple[str, dict[str, Any]]:
    # The text is the whole call, so the last quote before the brace closes the arguments, however
    # many apostrophes stand between. Raises ValueError.
    if quoted := _QUOTED_CALL.fullmatch(text):
        name, arguments = decode(quoted["name"]), _decode_quoted(quoted["arguments"])
    else:
        call = decode(text)
        if not isinstance(call, dict) or call.keys() != {"name", "arguments"}:
            raise ValueError("not an object of name and arguments")
        name, arguments = call["name"], call["arguments"]
        if isinstance(arguments, str):
            arguments = decode(arguments)
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError("the name is not text or the arguments are not an object")
    return name, arguments


def _decode_quoted(text: str) -> Any:
    r"""JSON from between single quotes; `\'`, which JSON lacks, stands for an apostrophe."""
    if "\\'" in text:
        text = _ESCAPE.sub(lambda escape: "'" if escape[1] == "'" else escape[0], text)
    return decode(text)


def _short(text: str, limit: int = 120) -> str:
    """The start of a row's text, fit for a message on a terminal: no newlines, no escape codes."""
    start = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:limit])
    return start if len(text) <= limit else start + "…"


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
            return f"message {number} ({one.role}) would be read back as {_short(repr(other))}"
    return f"{len(wanted.messages)} messages would be read back as {len(back.messages)}"
