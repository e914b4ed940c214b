"""Held-out rows and functions, and duplicates."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data import Conversation, Doubt, Message, Part, Row, Selection, Shares, Tool, ToolCall
from train.data.split import fingerprint, function_names, is_held_out, part


def talk(text: str, *functions: str, call: str | None = None) -> Conversation:
    calls = (ToolCall(name=call),) if call else ()
    return Conversation(
        messages=(
            Message(role="user", content=text),
            Message(role="assistant", content="a", tool_calls=calls),
        ),
        tools=tuple(Tool(name=name) for name in functions),
    )


def rows(*conversations: Conversation) -> list[Row]:
    return [Row(number, one) for number, one in enumerate(conversations, start=1)]


MANY = [talk(f"text {i}", f"f{i % 50}", f"g{i % 7}", call=f"f{i % 50}") for i in range(2000)]


def test_shares_are_about_what_was_asked_for() -> None:
    selection = Selection(Shares(rows=0.2))
    assert len(list(selection.sort(rows(*MANY)))) == 2000
    assert selection.parts["seen"] == pytest.approx(400, abs=60)
    assert selection.parts["unseen"] == 0
    names = [f"name {i}" for i in range(2000)]
    assert sum(is_held_out(name, 0.1) for name in names) == pytest.approx(200, abs=45)


def test_held_out_functions_are_never_trained_on() -> None:
    selection = Selection(Shares(rows=0.1, functions=0.2))
    sides: dict[Part, set[str]] = {"train": set(), "seen": set(), "unseen": set()}
    for name, conversation in selection.sort(rows(*MANY)):
        sides[name] |= function_names(conversation)
    assert all(selection.parts[name] for name in ("train", "seen", "unseen"))
    held_out = {name for name in sides["unseen"] if is_held_out(name, 0.2)}
    assert held_out
    assert not held_out & (sides["train"] | sides["seen"])
    assert not any(is_held_out(name, 0.2) for name in sides["train"] | sides["seen"])


@given(st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_the_order(shuffle: random.Random) -> None:
    shuffled = MANY[:100]
    shuffle.shuffle(shuffled)
    shares = Shares(rows=0.3, functions=0.1)
    first = {fingerprint(c): name for name, c in Selection(shares).sort(rows(*MANY[:100]))}
    second = {fingerprint(c): name for name, c in Selection(shares).sort(rows(*shuffled))}
    assert first == second
    assert all(part(one, shares) == first[fingerprint(one)] for one in shuffled)


def test_a_function_that_is_only_called_is_held_out_as_well() -> None:
    (name,) = [name for name in (f"h{i}" for i in range(1000)) if is_held_out(name, 0.05)][:1]
    assert part(talk("a", "f"), Shares(0.1, 0.05)) != "unseen"
    assert part(talk("a", "f", call=name), Shares(0.1, 0.05)) == "unseen"


def test_duplicates_differ_in_white_space_at_most() -> None:
    same = [talk("one  two\n", "f"), talk("one two", "f"), talk(" one\ttwo", "f")]
    other = [talk("one two", "g"), talk("one two"), talk("One two", "f")]
    other.append(talk("one two", "f", call="f"))
    selection = Selection(Shares())
    kept = [conversation for _, conversation in selection.sort(rows(*same, *other, *same))]
    assert kept == [same[0], *other]
    assert selection.duplicates == 5
    assert selection.parts.total() == 5


def test_rows_with_doubts_are_left_out_and_counted() -> None:
    doubtful = Row(1, talk("a"), (Doubt("results", "d"), Doubt("empty-turn", "d")))
    selection = Selection(Shares())
    assert [kept for _, kept in selection.sort([doubtful, *rows(talk("b"))])] == [talk("b")]
    assert selection.left_out == {"results": 1}
    keeping = Selection(Shares(), keep_doubtful=True)
    assert len(list(keeping.sort([doubtful]))) == 1
    assert not keeping.left_out
