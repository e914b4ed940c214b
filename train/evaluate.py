"""Tool-call accuracy on held-out conversations: every assistant turn that calls is one case."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.generate import Request, answers
from train.messages import Conversation, ToolCall
from train.toolcalls import parse_hermes

MAX_TOKENS = 128  # of an answer; the longest call of the embedded rows has about 110


@dataclass(frozen=True)
class Case:
    """A request from a held-out conversation and the calls that it should be answered with."""

    request: Request
    expected: tuple[ToolCall, ...]


@dataclass(frozen=True)
class Miss:
    """A case that was answered otherwise, for the report."""

    question: str
    expected: tuple[ToolCall, ...]
    got: str


@dataclass(frozen=True)
class Evaluation:
    """Counts over the cases of one held-out set.

    `exact`: the same calls in the same order, names and arguments equal as JSON values. `names`:
    the names alone. `well_formed`: every call could be read.
    """

    cases: int
    exact: int
    names: int
    well_formed: int
    misses: tuple[Miss, ...]

    @property
    def accuracy(self) -> float:
        """Share of exact answers, 0 to 1."""
        return self.exact / self.cases

    def report(self) -> dict[str, Any]:
        """The counts and misses as JSON for reports/evaluation.json."""
        return {
            "cases": self.cases,
            "exact": self.exact,
            "names": self.names,
            "well_formed": self.well_formed,
            "misses": [
                {
                    "question": miss.question,
                    "expected": [call.model_dump() for call in miss.expected],
                    "got": miss.got,
                }
                for miss in self.misses
            ],
        }


def cases(conversations: Sequence[Conversation], limit: int) -> list[Case]:
    """At most `limit` cases, drawn evenly from all calling turns; always the same ones."""
    found = [
        Case(Request(conversation.messages[:index], conversation.tools), message.tool_calls)
        for conversation in conversations
        for index, message in enumerate(conversation.messages)
        if message.tool_calls
    ]
    random.Random(0).shuffle(found)
    return found[:limit]


def evaluate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    held_out: Sequence[Case],
    on_done: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Answer every case greedily and compare the calls."""
    texts = answers(model, tokenizer, [case.request for case in held_out], MAX_TOKENS, on_done)
    return score(held_out, texts)


def score(held_out: Sequence[Case], texts: Sequence[str]) -> Evaluation:
    """Compare generated texts with what the cases expect."""
    exact = names = well_formed = 0
    misses: list[Miss] = []
    for case, text in zip(held_out, texts, strict=True):
        answer = parse_hermes(text)
        well_formed += answer.well_formed
        names += [call.name for call in answer.calls] == [call.name for call in case.expected]
        if answer.well_formed and same_calls(answer.calls, case.expected):
            exact += 1
        else:
            misses.append(Miss(case.request.messages[-1].content, case.expected, text))
    return Evaluation(len(held_out), exact, names, well_formed, tuple(misses))


def same_calls(left: Sequence[ToolCall], right: Sequence[ToolCall]) -> bool:
    """Equal names and arguments in equal order; 1 and 1.0 are equal, 1 and true are not."""
    return [_canonical(call) for call in left] == [_canonical(call) for call in right]


def _canonical(call: ToolCall) -> tuple[str, str]:
    return call.name, json.dumps(_floats(call.arguments), sort_keys=True)


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return value
    return value
