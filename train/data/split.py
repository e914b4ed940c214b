"""Which rows are trained on and which are held out, decided by each row alone.

So the same row falls on the same side in every run, whatever the order of the rows and whatever
stands beside it. Duplicates would stand on both sides: they are dropped before.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from train.data.errors import DoubtKind
from train.data.reading import Row
from train.messages import Conversation

Part = Literal[
    "train",
    "seen",  # held out by the hash of the row: its functions are trained on in other rows
    "unseen",  # held out with its functions, which no trained row offers or calls
]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Shares:
    """How much is held out.

    `rows` is a share of the rows; `functions` a share of the function names: every row that offers
    or calls one of them is held out, which is more rows than that share where rows offer several.
    """

    rows: float = 0.1
    functions: float = 0.0


@dataclass
class Selection:
    """Sorts rows into parts; counts what it leaves out and what goes where."""

    shares: Shares
    keep_doubtful: bool = False
    parts: Counter[Part] = field(default_factory=Counter)
    duplicates: int = 0
    left_out: Counter[DoubtKind] = field(default_factory=Counter)
    _seen: set[bytes] = field(default_factory=set)

    def sort(self, rows: Iterable[Row]) -> Iterator[tuple[Part, Conversation]]:
        """Yield what is used, one row at a time; 16 bytes a row stay in memory."""
        for row in rows:
            if row.doubts and not self.keep_doubtful:
                self.left_out[row.doubts[0].kind] += 1
                continue
            mark = fingerprint(row.conversation)
            if mark in self._seen:
                self.duplicates += 1
                continue
            self._seen.add(mark)
            found = part(row.conversation, self.shares, mark)
            self.parts[found] += 1
            yield found, row.conversation


def fingerprint(conversation: Conversation) -> bytes:
    """16 bytes that are the same for conversations that differ in white space only."""
    content = json.dumps(
        [
            [
                [
                    message.role,
                    " ".join(message.content.split()),
                    [[call.name, call.arguments] for call in message.tool_calls],
                ]
                for message in conversation.messages
            ],
            [[tool.name, tool.description, tool.parameters] for tool in conversation.tools],
        ],
        sort_keys=True,
    )
    return hashlib.sha256(content.encode()).digest()[:16]


def part(conversation: Conversation, shares: Shares, mark: bytes | None = None) -> Part:
    """Where the conversation belongs; `mark` is its fingerprint, if that is known already."""
    if shares.functions and any(
        is_held_out(name, shares.functions) for name in function_names(conversation)
    ):
        return "unseen"
    mark = mark or fingerprint(conversation)
    return "seen" if _below(mark, shares.rows) else "train"


def is_held_out(function: str, share: float) -> bool:
    """Whether a function of this name is never trained on."""
    return _below(hashlib.sha256(function.encode()).digest(), share)


def function_names(conversation: Conversation) -> set[str]:
    """All functions that are offered or called."""
    offered = {tool.name for tool in conversation.tools}
    return offered.union(
        call.name for message in conversation.messages for call in message.tool_calls
    )


def _below(digest: bytes, share: float) -> bool:
    return int.from_bytes(digest[:4]) < share * 2**32
