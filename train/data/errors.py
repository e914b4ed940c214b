"""What can be wrong with a data set: as a whole, in a row, or only in what a row would teach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from train.errors import TrainError

Reason = Literal[
    "encoding",
    "json",
    "not-an-object",
    "columns",
    "functions",
    "turns",
    "unterminated",
    "call",
    "results",
    "unsupported",
    "nothing-to-learn",
    "inexpressible",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

DoubtKind = Literal["unknown-function", "results", "repeated-role", "empty-turn", "cut-off"]
DOUBTS: tuple[DoubtKind, ...] = get_args(DoubtKind)

REASON_MEANS: dict[Reason, str] = {
    "encoding": "The line is not UTF-8: its text cannot be known.",
    "json": "The line is not one JSON value.",
    "not-an-object": "The row is JSON, but not an object with named columns.",
    "columns": "A column of the layout is missing, of another type, or no valid Unicode.",
    "functions": "The functions are not objects with a name and parameters that are a JSON Schema "
    "of type object (or a flat map of parameters): what the model is offered is not known.",
    "turns": "Text before the first turn, or a turn of a role that the layout does not have: who "
    "speaks is not known.",
    "unterminated": "An end mark inside a turn: two turns were glued together, or text was lost.",
    "call": "A call without a name, or whose arguments are no JSON object, or text after a call: "
    "what would be served is not known.",
    "results": "A result names a call that was not made, or that has a result already.",
    "unsupported": "Images, audio, custom tools, or messages that are marked as not to be trained: "
    "dropping them would change what the row teaches.",
    "nothing-to-learn": "The row has no assistant turn.",
    "inexpressible": "Only when writing: the layout cannot hold this conversation.",
}
DOUBT_MEANS: dict[DoubtKind, str] = {
    "unknown-function": "A call to a function that the row does not offer: it would teach "
    "inventing functions.",
    "results": "Calls and results are not paired: it would teach answering without a result, or "
    "reading one that nobody asked for. (A row may end with its calls.)",
    "repeated-role": "Two turns of the user or of the assistant in a row: no server asks the model "
    "to go on after its own end mark.",
    "empty-turn": "A user or an assistant who says nothing.",
    "cut-off": "The last turn lacks its end mark: the text may be incomplete, and the model would "
    "learn to stop there.",
}


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
