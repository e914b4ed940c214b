"""Scores: which calls count as equal, and the forced pass against plain generation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM

from train import evaluate as evaluation
from train.embedded.generator import conversations
from train.encode import Encoded, encode
from train.evaluate import Case, cases, evaluate, same_calls, score
from train.generate import answers
from train.messages import Conversation, Message, ToolCall
from train.toolcalls import PARSERS


def call(_name: str = "f", **arguments: Any) -> ToolCall:
    return ToolCall(name=_name, arguments=arguments)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([], []),
        ([call(a=1)], [call(a=1.0)]),
        ([call(a={"b": [1, 2.0]})], [call(a={"b": [1.0, 2]})]),
        ([call(a=1, b=2)], [call(b=2, a=1)]),
        ([call(a="é")], [call(a="\u00e9")]),
    ],
)
def test_equal_calls(left: list[ToolCall], right: list[ToolCall]) -> None:
    assert same_calls(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([call(a=1)], [call(a=True)]),
        ([call(a=0)], [call(a=False)]),
        ([call(a=1)], [call(a="1")]),
        ([call(a=None)], [call()]),
        ([call(a=[1, 2])], [call(a=[2, 1])]),
        ([call("f")], [call("g")]),
        ([call("f"), call("g")], [call("g"), call("f")]),
        ([call(), call()], [call()]),
        ([call(a="Oslo")], [call(a="oslo")]),
        ([call(a=10**400)], [call(a=10**400 + 1)]),
    ],
)
def test_different_calls(left: list[ToolCall], right: list[ToolCall]) -> None:
    assert not same_calls(left, right)


def one_case(*expected: ToolCall) -> Case:
    turns = (
        Message(role="user", content="u"),
        Message(role="assistant", tool_calls=expected),
    )
    return Case(Conversation(messages=turns), 1)


F = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "exact", "names", "well_formed"),
    [
        (F, 1, 1, 1),
        (F.replace("1", "1.0"), 1, 1, 1),
        (f"Sure.\n{F}", 1, 1, 1),
        (F.replace("1", "2"), 0, 1, 1),
        (F.replace('"f"', '"g"'), 0, 0, 1),
        (f"{F}\n{F}", 0, 0, 1),
        ("I cannot.", 0, 0, 1),
        # One unreadable call makes the whole answer text, as in vLLM.
        (f"{F}\n<tool_call>oops</tool_call>", 0, 0, 0),
    ],
)
def test_an_answer_is_counted(text: str, exact: int, names: int, well_formed: int) -> None:
    result = score([one_case(call(a=1))], [text], PARSERS["hermes"])
    assert (result.cases, result.exact, result.names, result.well_formed) == (
        1,
        exact,
        names,
        well_formed,
    )
    assert [miss.got for miss in result.misses] == [text] * (1 - exact)
    assert result.accuracy == exact


def test_every_turn_that_calls_is_a_case_in_order() -> None:
    rows = list(conversations("seen", 20, 0))
    found = cases(rows, 1000)
    assert [case.expected for case in found] == [
        message.tool_calls for row in rows for message in row.messages if message.tool_calls
    ]
    assert cases(rows, 5) == found[:5]
    assert all(case.request.messages[-1].role in ("user", "tool") for case in found)


def exchange(city: str) -> Conversation:
    """A short row with two calling turns, one after a result."""
    return Conversation(
        messages=(
            Message(role="user", content=city),
            Message(role="assistant", tool_calls=(call("find", city=city),)),
            Message(role="tool", content="7"),
            Message(role="assistant", tool_calls=(call("go", id=7), call("tell", about=city))),
        )
    )


def _padded(rows: list[Encoded], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = [torch.tensor(row.input_ids) for row in rows]
    labels = [
        torch.where(torch.tensor(row.trained), tokens, torch.tensor(-100))
        for tokens, row in zip(ids, rows, strict=True)
    ]
    return pad_sequence(ids, True, pad), pad_sequence(labels, True, -100)


@pytest.fixture(scope="module")
def half_taught(tokenizer: Any, tiny_base: Any) -> tuple[LlamaForCausalLM, list[Case]]:
    """A tiny model that knows two rows by heart and no other, and the cases of them all."""
    rows = [exchange(city) for city in ("Oslo", "Rome", "Lima", "Bonn")]
    model = LlamaForCausalLM.from_pretrained(tiny_base)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    encoded = [encode(tokenizer, row) for row in rows[:2]]
    ids, labels = _padded(encoded, tokenizer.pad_token_id)
    for _ in range(200):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.01:
            return model.eval(), cases(rows, 1000)
    raise AssertionError(f"the tiny model did not learn its rows: loss {loss.item():.3f}")


def test_the_forced_pass_agrees_with_plain_generation(
    half_taught: tuple[LlamaForCausalLM, list[Case]], tokenizer: Any
) -> None:
    model, held_out = half_taught
    quick = evaluate(model, tokenizer, held_out)
    texts = answers(model, tokenizer, [case.request for case in held_out], 120)
    plain = score(held_out, texts, PARSERS["hermes"])
    assert 0 < plain.exact < plain.cases, "the model must know some cases and not others"
    assert (quick.cases, quick.exact) == (plain.cases, plain.exact)
    assert [miss.expected for miss in quick.misses] == [miss.expected for miss in plain.misses]


def test_there_is_room_for_every_expected_answer(
    tokenizer: Any, tiny_base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_base)
    held_out = cases(list(conversations("seen", 40, 0)), 12)
    room: list[int] = []

    def no_answers(_: Any, __: Any, requests: Any, max_tokens: int, *___: Any) -> list[str]:
        room.append(max_tokens)
        return [""] * len(requests)

    monkeypatch.setattr(evaluation, "answers", no_answers)
    for case in held_out:
        evaluate(model, tokenizer, [case])
    for case, tokens in zip(held_out, room, strict=True):
        turn = Conversation(messages=case.conversation.messages[case.turn : case.turn + 1])
        assert sum(encode(tokenizer, turn).trained) <= tokens


def test_what_the_forced_pass_settles_is_not_generated(
    half_taught: tuple[LlamaForCausalLM, list[Case]],
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, held_out = half_taught
    asked: list[Any] = []

    def no_answers(model: Any, tokenizer: Any, requests: Any, *_: Any) -> list[str]:
        asked.extend(requests)
        return [""] * len(requests)

    monkeypatch.setattr(evaluation, "answers", no_answers)
    done: list[int] = []
    result = evaluate(model, tokenizer, held_out, done.append)
    assert len(asked) == len(held_out) - result.exact
    assert done[0] == result.exact > 0
