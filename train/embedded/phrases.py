"""Wordings that belong to no function. Every fourth of a tuple is kept for the held-out rows."""

from __future__ import annotations

import json
from typing import Any

OPENERS = ("", "", "Hi, ", "", "Hello! ", "Please help me. ", "Hey, ", "Good morning. ")
JOINERS = ("Also,", "And then:", "Besides,", "One more thing:")
SUPPLY = ("{value}", "It's {value}", "{value}, please", "Sorry, it is {value}")
ERRORS = (
    "not found",
    "service unavailable",
    "permission denied",
    "the request timed out",
    "invalid value",
    "quota exceeded",
    "already exists",
    "no longer available",
)
REFUSAL = "I'm sorry, but none of my functions can do that."
SMALL_TALK = (
    ("Thank you!", "You're welcome!"),
    ("Thanks, that's all.", "Glad to help. Have a nice day!"),
    ("Great, thanks a lot.", "You're welcome! Anything else?"),
    ("Perfect, thank you so much.", "You're welcome!"),
    ("Nice work!", "Thank you! Tell me if you need more."),
    ("How are you today?", "I'm fine, thank you. How can I help?"),
    ("Cool, bye!", "Goodbye!"),
    ("Good, see you.", "See you!"),
)
QUESTIONS = (
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("How many days has a leap year?", "A leap year has 366 days."),
    ("Who are you?", "I'm a helpful assistant."),
    ("Which planet is the largest?", "Jupiter is the largest planet."),
    ("What do bees make?", "Bees make honey."),
    ("Say something nice.", "You are doing great today."),
    ("What colour is the sky?", "On a clear day the sky is blue."),
    ("Is water wet?", "Most people would say yes."),
)


def dump(value: Any) -> str:
    """JSON as the rows and the templates write it."""
    return json.dumps(value, ensure_ascii=False)
