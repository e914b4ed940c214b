"""Wordings that belong to no function; held-out rows use others than training rows."""

from __future__ import annotations

import json
from typing import Any

from train.embedded.schema import split

# What may stand before a request, and after one that is a whole sentence.
OPENERS = split(
    (
        "Hi, ",
        "Hey, ",
        "Hello! ",
        "Please help me. ",
        "Sorry to bother you. ",
        "OK, next: ",
        "Quick one: ",
        "Hi there! ",
        "Excuse me, ",
        "I'm new here. ",
        "Listen: ",
        "Dear assistant, ",
        "Now, ",
        "So, ",
        "I have a request. ",
        "My hands are full. ",
        "Could you do me a favour? ",
        "Well, ",
        "Another thing: ",
        "If you have a moment: ",
        "It's me again. ",
        "Right, ",
        "I need your help here. ",
        "Hello again. ",
        "Let's see. ",
        "Be so kind: ",
        "Before I forget: ",
        "Good day. ",
        "Hmm, ",
        "May I ask something? ",
        "Look, ",
        "Task: ",
    )
)
CLOSERS = split(
    (
        " Thanks!",
        " Thank you.",
        " Many thanks.",
        " Please.",
        " Cheers!",
        " That would help me a lot.",
        " I'd be grateful.",
        " Thanks in advance.",
        " You're the best.",
        " OK?",
        " Can you do that?",
        " Just do it.",
        " Thanks so much.",
        " I appreciate it.",
        " Thx.",
    )
)
JOINERS = split(
    (
        "Also,",
        "And then:",
        "Besides,",
        "Then,",
        "In addition,",
        "Next,",
        "And:",
        "At the same time,",
        "Furthermore,",
        "Plus,",
        "And also this:",
        "Second,",
        "One more thing:",
        "On top of that,",
        "While you're at it,",
    )
)
SUPPLY = split(
    (
        "{value}",
        "It's {value}",
        "{value}, please",
        "Oh, I forgot: {value}",
        "Take {value}",
        "Let it be {value}",
        "I meant {value}",
        "That would be {value}",
        "Sorry, it is {value}",
        "Right, {value}",
        "Make it {value}",
    )
)
ERRORS = split(
    (
        "not found",
        "service unavailable",
        "permission denied",
        "invalid value",
        "quota exceeded",
        "already exists",
        "connection refused",
        "internal server error",
        "rate limit reached",
        "the session has expired",
        "under maintenance",
        "authentication failed",
        "the request timed out",
        "no longer available",
        "too many open requests",
    )
)
REFUSAL = "I'm sorry, but none of my functions can do that."
SMALL_TALK = split(
    (
        ("Thank you!", "You're welcome!"),
        ("Thanks, that's all.", "Glad to help. Have a nice day!"),
        ("Great, thanks a lot.", "You're welcome! Anything else?"),
        ("Nice work!", "Thank you! Tell me if you need more."),
        ("How are you today?", "I'm fine, thank you. How can I help?"),
        ("Cool, bye!", "Goodbye!"),
        ("You're fast.", "Thank you! I do my best."),
        ("That was helpful.", "I'm glad to hear that."),
        ("Good night!", "Good night, sleep well!"),
        ("Wow, it works.", "It does! What else can I do?"),
        ("I'm a bit tired.", "Then take a break, you deserve it."),
        ("Wonderful.", "Happy to help!"),
        ("Sorry, I was away.", "No problem, I'm still here."),
        ("You made my day.", "That's very kind of you!"),
        ("OK, got it.", "Good. Just ask if there is more."),
        ("Are you still there?", "Yes, I'm here."),
        ("Perfect, thank you so much.", "You're welcome!"),
        ("Good, see you.", "See you!"),
        ("What a day!", "I hope that it was a good one."),
        ("That's everything for now.", "All right, until next time!"),
    ),
)
# For rows that offer no function; there are none among the held-out rows.
QUESTIONS = (
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("How many days has a leap year?", "A leap year has 366 days."),
    ("Who are you?", "I'm a helpful assistant."),
    ("Which planet is the largest?", "Jupiter is the largest planet."),
    ("What do bees make?", "Bees make honey."),
    ("Say something nice.", "You are doing great today."),
    ("What colour is the sky?", "On a clear day the sky is blue."),
    ("Is water wet?", "Most people would say yes."),
    ("How many legs has a spider?", "A spider has eight legs."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("Where does the sun rise?", "The sun rises in the east."),
    ("How many minutes are in an hour?", "An hour has 60 minutes."),
    ("What freezes at zero degrees Celsius?", "Water freezes at zero degrees Celsius."),
    ("Who wrote Hamlet?", "William Shakespeare wrote Hamlet."),
    ("What is ice made of?", "Ice is frozen water."),
    ("Which month comes after May?", "June comes after May."),
)


def dump(value: Any) -> str:
    """JSON as the rows and the templates write it."""
    return json.dumps(value, ensure_ascii=False)
