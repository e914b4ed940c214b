"""What conversations hold: their kind, what is special about them, their functions."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

from train.messages import Conversation, Message

Kind = Literal[
    "no-functions",  # none is offered: plain talk
    "no-call",  # functions are offered and none is called: a refusal, a question back, an answer
    "one-call",  # a single call
    "several-calls",  # one call at a time, each for another user's turn
    "chain",  # a call after the result of another, for the same user's turn
    "parallel",  # several calls in one turn
]
KINDS: tuple[Kind, ...] = get_args(Kind)

Trait = Literal[
    "asks-back",  # the assistant ends a turn with a question although functions are offered
    "refuses",  # by its wording: sorry, unable, cannot
    "error-result",  # a result that says that the call failed
    "text-and-call",  # text before the calls of the same turn
    "no-arguments",  # a call without arguments
    "system-prompt",  # a system message of its own
    "unanswered-call",  # the conversation ends with a call
]
TRAITS: tuple[Trait, ...] = get_args(Trait)

_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|unable to|cannot|can.t|not able to|don.t have (?:the|access))",
    re.IGNORECASE,
)
_ERROR_KEYS = ("error", "errors", "exception")


@dataclass
class Census:
    """Counts over conversations; a conversation has one kind and any number of traits."""

    conversations: int = 0
    messages: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    traits: Counter[Trait] = field(default_factory=Counter)
    offered: Counter[str] = field(default_factory=Counter)
    called: Counter[str] = field(default_factory=Counter)

    def add(self, conversation: Conversation) -> None:
        """Count one more."""
        self.conversations += 1
        self.messages += len(conversation.messages)
        self.kinds[kind(conversation)] += 1
        self.traits.update(traits(conversation))
        self.offered.update({tool.name for tool in conversation.tools})
        self.called.update(
            call.name for message in conversation.messages for call in message.tool_calls
        )


def kind(conversation: Conversation) -> Kind:
    """The kind of a conversation; the most demanding of those that apply."""
    calling = [message for message in conversation.messages if message.tool_calls]
    if not calling:
        return "no-call" if conversation.tools else "no-functions"
    if any(len(message.tool_calls) > 1 for message in calling):
        return "parallel"
    if _has_chain(conversation.messages):
        return "chain"
    return "one-call" if len(calling) == 1 else "several-calls"


def _has_chain(messages: tuple[Message, ...]) -> bool:
    called = False
    for message in messages:
        if message.role == "user":
            called = False
        elif message.tool_calls:
            if called:
                return True
            called = True
    return False


def traits(conversation: Conversation) -> set[Trait]:
    """What is special about a conversation."""
    found: set[Trait] = set()
    for message in conversation.messages:
        if message.role == "system":
            found.add("system-prompt")
        elif message.role == "tool":
            if _is_error(message.content):
                found.add("error-result")
        elif message.tool_calls:
            if message.content:
                found.add("text-and-call")
            if not all(call.arguments for call in message.tool_calls):
                found.add("no-arguments")
        elif message.role == "assistant" and conversation.tools:
            if message.content.rstrip().endswith("?"):
                found.add("asks-back")
            if _REFUSAL.search(message.content, 0, 300):
                found.add("refuses")
    if conversation.messages[-1].tool_calls:
        found.add("unanswered-call")
    return found


def _is_error(content: str) -> bool:
    if not content.lstrip().startswith("{"):
        return False
    try:
        result = json.loads(content)
    except (ValueError, RecursionError):
        return False
    if not isinstance(result, dict):
        return False
    status = result.get("status")
    return (
        any(result.get(key) for key in _ERROR_KEYS)
        or result.get("success") is False
        or (isinstance(status, str) and status.lower() in ("error", "failed", "failure"))
    )
