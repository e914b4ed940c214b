"""Read the tool calls out of generated text, for evaluation, `infer` and the check before training.

One parser for each tool format, equal to the one that vLLM serves with: `hermes` of vLLM itself,
and serve/vllm/nemotron_tool_parser.py. Two differences, both on purpose: the line break between
text and calls is no part of the text, and arguments that are no JSON object make a call unreadable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from release.manifest import ToolFormat
from train.errors import TrainError
from train.messages import ToolCall


@dataclass(frozen=True)
class Answer:
    """An assistant's turn: text before the first call, the calls, and whether all were readable.

    As served: one unreadable call makes the whole answer text.
    """

    content: str
    calls: tuple[ToolCall, ...]
    well_formed: bool


@dataclass(frozen=True)
class CallParser:
    """How one tool format is read; `begins` and `ends` are the marks around calls."""

    begins: str
    ends: str
    parse: Callable[[str], Answer]


_HERMES = re.compile(r"<tool_call>(.*?)</tool_call>|<tool_call>(.*)", re.DOTALL)
_DECODER = json.JSONDecoder()


def parse_hermes(text: str) -> Answer:
    """`<tool_call>{"name": …, "arguments": {…}}</tool_call>`, once for each call."""

    def calls() -> Iterator[Any]:
        for closed, open_end in _HERMES.findall(text):
            yield json.loads(closed or open_end)

    return _read(text, "<tool_call>", calls)


def parse_nemotron(text: str) -> Answer:
    """`<TOOLCALL>[{"name": …, "arguments": {…}}, …]</TOOLCALL>`, usually one list for all calls."""

    def calls() -> Iterator[Any]:
        at = 0
        while (begin := text.find("<TOOLCALL>", at)) >= 0:
            start = begin + len("<TOOLCALL>")
            start += len(text[start:]) - len(text[start:].lstrip(" \t\r\n"))
            # An end mark inside a string of the list ends nothing.
            found, at = _DECODER.raw_decode(text, start)
            rest, mark, _ = text[at:].partition("</TOOLCALL>")
            if rest.strip(" \t\r\n") or not isinstance(found, list):
                raise ValueError("not one list between the marks")
            yield from found
            at += len(rest) + len(mark)

    return _read(text, "<TOOLCALL>", calls)


PARSERS: dict[ToolFormat, CallParser] = {
    "hermes": CallParser("<tool_call>", "</tool_call>", parse_hermes),
    "llama-nemotron": CallParser("<TOOLCALL>", "</TOOLCALL>", parse_nemotron),
}


def parser_of(chat_template: str) -> CallParser:
    """The parser for what a chat template writes; it may be an older release's template.

    Raises:
        TrainError: the template writes calls in no known format.
    """
    for parser in PARSERS.values():
        if parser.begins in chat_template:
            return parser
    raise TrainError(
        "the model's chat template has none of the tool formats that Toolsmith reads: "
        + ", ".join(parser.begins for parser in PARSERS.values())
    )


def _read(text: str, begins: str, calls: Callable[[], Iterator[Any]]) -> Answer:
    if begins not in text:
        return Answer(text, (), True)
    try:
        found = tuple(_call(raw) for raw in calls())
    except (ValueError, KeyError, TypeError, RecursionError):
        return Answer(text, (), False)
    return Answer(text.split(begins, 1)[0].rstrip("\n"), found, True)


def _call(raw: Any) -> ToolCall:
    call = ToolCall(name=raw["name"], arguments=raw["arguments"])
    # Half a surrogate pair has no UTF-8 form: no server can send it.
    json.dumps([call.name, call.arguments], ensure_ascii=False).encode()
    return call
