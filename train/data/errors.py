"""What can be wrong with a data set: as a whole, in a row, or only in what a row would teach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from train.errors import TrainError

Reason = Literal[
    "encoding",  # the line is not UTF-8
    "json",  # the line is not JSON
    "not-an-object",  # JSON, but not an object with named columns
    "columns",  # a column is missing, of the wrong type, or not valid Unicode
    "functions",  # the functions are not readable as objects with a name and a JSON Schema
    "turns",  # text before the first turn, or a turn of a role that is not known
    "unterminated",  # an end mark inside a turn: two turns were glued together
    "call",  # a call without a name, or without a JSON object as arguments
    "results",  # a result names a call that was not made
    "unsupported",  # images, weights and other things that a conversation here cannot hold
    "nothing-to-learn",  # no assistant turn
    "inexpressible",  # only from writing: the layout cannot hold this conversation
]
REASONS: tuple[Reason, ...] = get_args(Reason)

DoubtKind = Literal[
    "unknown-function",  # a call to a function that the row does not offer
    "results",  # calls and results are not paired
    "repeated-role",  # two turns of the user, or two of the assistant, in a row
    "empty-turn",  # a user or an assistant who says nothing
    "cut-off",  # the end mark of the last turn is missing: its text may be incomplete
]
DOUBTS: tuple[DoubtKind, ...] = get_args(DoubtKind)


class DataError(TrainError):
    """A data set that cannot be used. The message says what, where and what to do."""


class RowError(Exception):
    """A row that is not a readable conversation; `reason` is for counting, `detail` for reading."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Doubt:
    """Why a row that can be read would teach something wrong."""

    kind: DoubtKind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


def short(text: str, limit: int = 120) -> str:
    """The start of a row's text, fit for a message on a terminal: no newlines, no escape codes."""
    start = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:limit])
    return start if len(text) <= limit else start + "…"
