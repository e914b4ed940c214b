"""One row through every stage: raw → messages → rendered → tokens; or why it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from train.data.census import kind, traits
from train.data.errors import DOUBT_MEANS, REASON_MEANS, DataError, RowError
from train.data.files import Reject
from train.data.formats import Format
from train.data.reading import Row, Source, known_format, parse

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Token:
    """One token; `trained` says whether it enters the loss."""

    id: int
    text: str
    trained: bool


@dataclass(frozen=True)
class Rendered:
    """The row as the model sees it; `dropped` says why a run would leave it out."""

    text: str
    tokens: tuple[Token, ...]
    dropped: str | None = None

    @property
    def trained(self) -> int:
        """How many tokens enter the loss."""
        return sum(token.trained for token in self.tokens)


@dataclass(frozen=True)
class Inspection:
    """What became of one row. Exactly one of `reject` and `row` is set."""

    number: int
    format: Format
    raw: str
    reject: Reject | None = None
    row: Row | None = None
    rendered: Rendered | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a program to read."""
        found: dict[str, Any] = {
            "number": self.number,
            "format": self.format,
            "status": "refused" if self.reject else "doubtful" if self._doubts else "read",
            "raw": self.raw,
        }
        if self.reject:
            reason = self.reject.reason
            found |= {
                "reason": reason, "means": REASON_MEANS[reason], "detail": self.reject.detail,
            }  # fmt: skip
        if self.row:
            conversation = self.row.conversation
            found |= {
                "doubts": [
                    {"kind": doubt.kind, "detail": doubt.detail, "means": DOUBT_MEANS[doubt.kind]}
                    for doubt in self.row.doubts
                ],
                "kind": kind(conversation),
                "traits": sorted(traits(conversation)),
                "conversation": conversation.model_dump(),
            }
        if self.rendered:
            found |= {
                "rendered": self.rendered.text,
                "tokens": [vars(token) for token in self.rendered.tokens],
                "trained_tokens": self.rendered.trained,
                "dropped": self.rendered.dropped,
            }
        return found

    @property
    def _doubts(self) -> bool:
        return bool(self.row and self.row.doubts)


def inspect_row(source: Source, number: int) -> Inspection:
    """Read one row, by the number that the reject file gives it.

    Raises DataError where the source has no such row.
    """
    format, rows = known_format(source, source.raw_rows())
    last = 0
    for raw in rows:
        last = raw.number
        if last >= number:
            break
    if last != number:
        raise DataError(f"{source.data}: no row {number}; the nearest before it is {last}")
    if isinstance(raw, Reject):
        return Inspection(number, format, raw.raw, reject=raw)
    try:
        row = parse(raw, format)
    except RowError as error:
        reject = Reject(number, error.reason, error.detail, raw.raw)
        return Inspection(number, format, raw.raw, reject=reject)
    return Inspection(number, format, raw.raw, row=row)


def render(tokenizer: PreTrainedTokenizerBase, row: Row, sequence_length: int) -> Rendered:
    """The row as the tokenizer's template shows it to the model, for sequences of that length."""
    from train.encode import Encoded, encode_stream
    from train.template import prompt
    from train.tokens import too_long

    (result,) = encode_stream(tokenizer, [row.conversation])
    if isinstance(result, Encoded) and len(result.input_ids) > sequence_length:
        result = too_long(result)
    if isinstance(result, Encoded):
        ids, marks, dropped = result.input_ids, result.trained, None
    else:
        text = prompt(tokenizer, row.conversation.messages, row.conversation.tools, answer=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        marks, dropped = [False] * len(ids), f"{result.reason}: {result.detail}"
    tokens = tuple(
        Token(token, tokenizer.decode([token]), trained)
        for token, trained in zip(ids, marks, strict=True)
    )
    return Rendered(tokenizer.decode(ids), tokens, dropped)


def runs(tokenizer: PreTrainedTokenizerBase, rendered: Rendered) -> list[tuple[str, bool]]:
    """The text in pieces that are trained as a whole or not at all.

    A character of several tokens is whole again in them.
    """
    pieces: list[tuple[list[int], bool]] = []
    for token in rendered.tokens:
        if not pieces or pieces[-1][1] != token.trained:
            pieces.append(([], token.trained))
        pieces[-1][0].append(token.id)
    return [(str(tokenizer.decode(ids)), trained) for ids, trained in pieces]
