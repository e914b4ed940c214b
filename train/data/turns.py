"""What every layout shares once its turns are apart: one list of messages, and doubts about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from train.data.errors import Doubt, RowError, short
from train.data.strict_json import BLANK
from train.messages import Conversation, Message, Role, Tool, ToolCall


@dataclass(frozen=True)
class Reading:
    """A row that was read. A row with doubts is whole, but would teach something wrong."""

    conversation: Conversation
    doubts: tuple[Doubt, ...] = ()


@dataclass
class Turns:
    """The messages of a row, in the making."""

    messages: list[Message] = field(default_factory=list)

    def add(self, role: Role, content: str, calls: tuple[ToolCall, ...] = ()) -> None:
        """Add a turn as it stands."""
        self.messages.append(Message(role=role, content=content, tool_calls=calls))

    def add_assistant(self, content: str, calls: tuple[ToolCall, ...] = ()) -> None:
        """Add an assistant's turn; calls that directly follow its text belong to that text.

        Layouts that have a turn of its own for a call write text and call one after the other,
        where a served model gives one message.
        """
        last = self.messages[-1] if self.messages else None
        if calls and not content and last and last.role == "assistant" and not last.tool_calls:
            content = self.messages.pop().content
        self.add("assistant", content, calls)


def reading(
    messages: list[Message], tools: tuple[Tool, ...], doubts: tuple[Doubt, ...] = ()
) -> Reading:
    """The whole row. Raises RowError for one without an assistant."""
    if not any(message.role == "assistant" for message in messages):
        raise RowError("nothing-to-learn", "the row has no assistant turn")
    conversation = Conversation(messages=tuple(messages), tools=tools)
    return Reading(conversation, doubts + tuple(find_doubts(conversation)))


def find_doubts(conversation: Conversation) -> list[Doubt]:
    """What no served model would see or should say, whatever layout the row came in.

    The last calls of a row may be without results: the row ends with what is to be learned.
    """
    known = {tool.name for tool in conversation.tools}
    found: list[Doubt] = []
    waiting = calls = 0  # calls without a result so far, and those of the turn they came from
    previous = ""
    for number, message in enumerate(conversation.messages, start=1):
        where = f"message {number} ({message.role})"
        if message.role == "tool":
            if not waiting:
                found.append(Doubt("results", f"{where} is a result that no call asked for"))
            waiting = max(0, waiting - 1)
            previous = message.role
            continue
        if waiting:
            found.append(Doubt("results", f"{where} comes before {waiting} of {calls} result(s)"))
        waiting = calls = len(message.tool_calls)
        if message.role in ("user", "assistant"):
            if message.role == previous:
                found.append(Doubt("repeated-role", f"{where} follows another of its role"))
            if not message.content.strip(BLANK) and not message.tool_calls:
                found.append(Doubt("empty-turn", f"{where} says nothing"))
        for call in message.tool_calls:
            if call.name not in known:
                offered = short(", ".join(sorted(known)) or "none")
                found.append(
                    Doubt(
                        "unknown-function",
                        f"{where} calls {short(call.name)}; offered: {offered}",
                    )
                )
        previous = message.role
    if waiting and not conversation.messages[-1].tool_calls:
        found.append(Doubt("results", f"the row ends before {waiting} of {calls} result(s)"))
    return found
