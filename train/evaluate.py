"""Tool-call accuracy on held-out conversations: every assistant turn that calls is one case."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.encode import encode
from train.generate import Request, answers
from train.messages import Conversation, Message, ToolCall
from train.template import prompt
from train.toolcalls import CallParser, parser_of

SLACK = 24  # tokens of an answer beyond the longest expected one


@dataclass(frozen=True)
class Case:
    """An assistant's turn of a held-out conversation that calls functions."""

    conversation: Conversation
    turn: int

    @property
    def request(self) -> Request:
        """What stands before the turn."""
        return Request(self.conversation.messages[: self.turn], self.conversation.tools)

    @property
    def message(self) -> Message:
        """The turn itself."""
        return self.conversation.messages[self.turn]

    @property
    def expected(self) -> tuple[ToolCall, ...]:
        """The calls that it makes."""
        return self.message.tool_calls


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
    """The calling turns of whole conversations, in their order, until there are `limit`."""
    found = [
        Case(conversation, turn)
        for conversation in conversations
        for turn, message in enumerate(conversation.messages)
        if message.tool_calls
    ]
    return found[:limit]


def evaluate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    held_out: Sequence[Case],
    on_done: Callable[[int], None] = lambda count: None,
    *,
    trained: bool = True,
) -> Evaluation:
    """Answer every case greedily and compare the calls.

    A turn of which every token is the model's first choice is what greedy decoding writes; one
    pass over a conversation finds these for all its turns. Only the others are generated. A model
    that is not `trained` writes none of them so: it is spared the pass.
    """
    parser = parser_of(tokenizer.chat_template)
    certain = _written_greedily(model, tokenizer, held_out) if trained else set()
    on_done(len(certain))
    open_cases = [case for number, case in enumerate(held_out) if number not in certain]
    lengths = [_length(tokenizer, case) for case in open_cases]
    texts = answers(
        model,
        tokenizer,
        [case.request for case in open_cases],
        # Room for text before the calls or looser spacing; what is longer is something else.
        max(lengths, default=0) + SLACK,
        lambda done: on_done(len(certain) + done),
        # Where every expected turn is calls alone, one that begins otherwise is wrong already.
        "" if any(case.message.content for case in open_cases) else parser.begins,
    )
    rest = score(open_cases, texts, parser)
    return replace(
        rest,
        cases=len(held_out),
        exact=rest.exact + len(certain),
        names=rest.names + len(certain),
        well_formed=rest.well_formed + len(certain),
    )


def _length(tokenizer: PreTrainedTokenizerBase, case: Case) -> int:
    """Tokens of the expected turn as the template writes it, and a few for its marks."""
    text = prompt(tokenizer, [case.conversation.messages[case.turn]], ())
    return len(tokenizer.encode(text, add_special_tokens=False))


def _written_greedily(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    held_out: Sequence[Case],
) -> set[int]:
    """The numbers of the cases whose turn the model writes token for token."""
    found: set[int] = set()
    numbered = enumerate(held_out)
    for conversation, group in groupby(numbered, key=lambda pair: pair[1].conversation):
        encoded = encode(tokenizer, conversation)
        with torch.inference_mode():
            ids = torch.tensor([encoded.input_ids], device=model.device)
            choices = model(input_ids=ids).logits[0].argmax(-1).tolist()
        right = [
            choice == token for choice, token in zip(choices, encoded.input_ids[1:], strict=False)
        ]
        # Assistant turns are the runs of trained tokens; right[i - 1] is about token i.
        runs = [
            list(run)
            for trained, run in groupby(range(len(encoded.trained)), encoded.trained.__getitem__)
            if trained
        ]
        turns = [n for n, m in enumerate(conversation.messages) if m.role == "assistant"]
        exact = {
            turn
            for turn, run in zip(turns, runs, strict=True)
            if all(right[position - 1] for position in run)
        }
        found |= {number for number, case in group if case.turn in exact}
    return found


def score(held_out: Sequence[Case], texts: Sequence[str], parser: CallParser) -> Evaluation:
    """Compare generated texts with what the cases expect."""
    exact = names = well_formed = 0
    misses: list[Miss] = []
    for case, text in zip(held_out, texts, strict=True):
        answer = parser.parse(text)
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
