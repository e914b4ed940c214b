"""Conversations to tokens, and the mask of what is trained.

A conversation is rendered by the tokenizer's chat template, whose `{% generation %}` marks say
which characters are the assistant's. The text is tokenized once, as a whole, and the marked
characters become tokens by the tokenizer's offsets. The result is what transformers'
`apply_chat_template(return_assistant_tokens_mask=True)` gives, with two differences: texts are
tokenized many at a time, and where transformers would quietly leave tokens out of the mask or take
too many in, this is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from train.errors import TrainError
from train.messages import Conversation
from train.template import ControlTokens, template_variables

Drop = Literal[
    "too-long",  # more tokens than the sequence length
    "nothing-trained",  # no assistant turn, so no token to learn from
    "control-token",  # a text with a special token, as <|im_end|>, or an answer with a call's mark
    "unknown-token",  # a character that the vocabulary has no tokens for
    "split-token",  # one token holds the end of a header and the start of the answer
]

# A chunk is tokenized at once, on all cores. An Encoding takes about 200 bytes a token.
CHUNK_ROWS = 512
CHUNK_CHARACTERS = 2_000_000
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")

Span = tuple[int, int]


class EncodeError(TrainError):
    """The template or the tokenizer cannot say which tokens are the assistant's."""


class SplitTokenError(EncodeError):
    """A token lies partly inside an assistant's turn: a matter of this row's text."""


@dataclass(frozen=True)
class Encoded:
    """A row as tokens: `trained[i]` says whether `input_ids[i]` enters the loss. Equal lengths."""

    input_ids: list[int]
    trained: list[bool]


@dataclass(frozen=True)
class Dropped:
    """A row that is not trained on, and why."""

    reason: Drop
    detail: str


def encode(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> Encoded:
    """Tokens of a whole conversation; the assistant's turns, calls and end marks are trained.

    Raises:
        EncodeError: the template marks no turn, the tokenizer has no offsets, or one token holds
            both what is trained and what is not.
    """
    return _encoder(tokenizer, tokenizer.chat_template, len(tokenizer)).encode(conversation)


def encode_stream(
    tokenizer: PreTrainedTokenizerBase, conversations: Iterable[Conversation]
) -> Iterator[Encoded | Dropped]:
    """One result a conversation, in order; only a few hundred are in memory at a time.

    Rendering runs here while the chunk before is tokenized on the other cores.

    Raises:
        EncodeError: the template marks no turn, or the tokenizer has no offsets.
    """
    encoder = _encoder(tokenizer, tokenizer.chat_template, len(tokenizer))
    yield from encoder.stream(conversations)


class Encoder:
    """A tokenizer and its chat template, made ready once. Use it from one thread at a time.

    Raises:
        EncodeError: the tokenizer has no offsets or the template has no generation marks.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.template: str = tokenizer.chat_template or ""
        self._special: dict[str, Any] = dict(tokenizer.special_tokens_map)
        if not _GENERATION.search(self.template):
            raise EncodeError(
                "the chat template has no {% generation %} marks, so no token would be trained. "
                "Use one of Toolsmith's templates, or mark the assistant's turns in yours"
            )
        self._tokenizer = _plain(tokenizer)
        self._control = ControlTokens(tokenizer)
        self._unknown = _unknown_token(tokenizer)

    def encode(self, conversation: Conversation) -> Encoded:
        """See `encode`."""
        text, spans = self._render(_variables(conversation))
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return _masked(text, spans, encoding)

    def stream(self, conversations: Iterable[Conversation]) -> Iterator[Encoded | Dropped]:
        """See `encode_stream`."""
        # encode_batch works outside Python's lock: one thread is enough to keep it busy.
        with ThreadPoolExecutor(1, "tokenize") as pool:
            before: tuple[_Chunk, Future[list[Encoding]]] | None = None
            for chunk in self._chunks(conversations):
                texts = [row[0] for row in chunk if not isinstance(row, Dropped)]
                now = (
                    chunk,
                    pool.submit(self._tokenizer.encode_batch, texts, add_special_tokens=False),
                )
                if before:
                    yield from self._results(before[0], before[1].result())
                before = now
            if before:
                yield from self._results(before[0], before[1].result())

    def _chunks(self, conversations: Iterable[Conversation]) -> Iterator[_Chunk]:
        chunk: _Chunk = []
        characters = 0
        for conversation in conversations:
            text, spans = self._render(_variables(conversation))
            characters += len(text)
            if not spans:
                chunk.append(Dropped("nothing-trained", "no assistant turn"))
            elif found := self._control.first_in(conversation):
                chunk.append(Dropped("control-token", f"a text holds {found}"))
            else:
                chunk.append((text, spans))
            if len(chunk) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
                yield chunk
                chunk, characters = [], 0
        if chunk:
            yield chunk

    def _results(self, chunk: _Chunk, encodings: Sequence[Encoding]) -> Iterator[Encoded | Dropped]:
        left = iter(encodings)
        for row in chunk:
            if isinstance(row, Dropped):
                yield row
                continue
            encoding = next(left)
            if self._unknown in encoding.ids:
                yield Dropped("unknown-token", "a character that the vocabulary does not have")
                continue
            try:
                yield _masked(*row, encoding)
            except SplitTokenError as error:
                yield Dropped("split-token", str(error))

    def _render(self, variables: dict[str, Any]) -> tuple[str, list[Span]]:
        """The text, and which of its characters are the assistant's."""
        # Tools differ from row to row, so rows are rendered one by one; compiling is cached.
        texts, spans = render_jinja_template(
            conversations=[variables["messages"]],
            tools=variables["tools"],
            chat_template=self.template,
            return_assistant_tokens_mask=True,
            **self._special,
        )
        has_answers = any(message["role"] == "assistant" for message in variables["messages"])
        if has_answers and not spans[0]:
            raise EncodeError(
                "the chat template marks no assistant turn of a conversation that has one: its "
                "{% generation %} marks must be around what every assistant message prints"
            )
        for start, end in spans[0]:
            if start >= end:
                raise EncodeError(
                    f"the chat template marks an empty assistant turn after "
                    f"{texts[0][:start][-40:]!r}: its {{% generation %}} marks must be around the "
                    "whole turn, end mark included"
                )
        return texts[0], spans[0]


_Chunk = list[tuple[str, list[Span]] | Dropped]


def _variables(conversation: Conversation) -> dict[str, Any]:
    return template_variables(conversation.messages, conversation.tools)


@lru_cache(maxsize=2)
def _encoder(tokenizer: PreTrainedTokenizerBase, template: str | None, tokens: int) -> Encoder:
    """Template and vocabulary size are part of the key: both can change on a tokenizer."""
    return Encoder(tokenizer)


def _plain(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer's own rules with nothing that hides a character from the offsets.

    A copy: padding and truncation are off whatever others set, and there is no post-processor.
    Without special tokens to add, all that one does is to trim blanks from the offsets: then the
    blank that an answer begins with would belong to no token.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise EncodeError(
            f"{type(tokenizer).__name__} is not a fast tokenizer: without offsets nothing says "
            "which tokens are the assistant's. Use a base model with a tokenizer.json"
        )
    rules = json.loads(backend.to_str())
    rules |= {"post_processor": None, "padding": None, "truncation": None}
    return Tokenizer.from_str(json.dumps(rules))


def _unknown_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """What stands for a character that the vocabulary lacks, where that is a token of its own."""
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return None if tokenizer.unk_token_id in ends else tokenizer.unk_token_id


def _masked(text: str, spans: Sequence[Span], encoding: Encoding) -> Encoded:
    ids = encoding.ids
    trained = [False] * len(ids)
    for start, end in spans:
        first, last = _tokens_of(text, start, end, encoding, len(ids))
        trained[first : last + 1] = [True] * (last + 1 - first)
    return Encoded(ids, trained)


def _tokens_of(text: str, start: int, end: int, encoding: Encoding, tokens: int) -> tuple[int, int]:
    """First and last token of the characters from `start` to `end`."""
    first, last = encoding.char_to_token(start), encoding.char_to_token(end - 1)
    if first is None or last is None:
        where = start if first is None else end - 1
        raise EncodeError(
            f"the tokenizer gives the character {text[where]!r} after "
            f"{text[:where][-40:]!r} to no token, so nothing says whether it is trained"
        )
    # A character of several tokens (an emoji) is at all of them: char_to_token gives the first.
    while last + 1 < tokens and (chars := encoding.token_to_chars(last + 1)) and chars[0] < end:
        last += 1
    begins, ends = encoding.token_to_chars(first), encoding.token_to_chars(last)
    if begins is None or ends is None or begins[0] < start or ends[1] > end:
        edge = start if begins is None or begins[0] < start else end
        raise SplitTokenError(
            f"one token holds characters on both sides of an assistant turn's edge, at "
            f"{text[max(edge - 20, 0) : edge]!r} | {text[edge : edge + 20]!r}. A served model "
            "never sees this token there: begin the answer without blanks"
        )
    return first, last
