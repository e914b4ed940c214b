"""The embedded data set: what every generated conversation must hold."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import product
from typing import Any

import pytest

from train.data.glaive import parse_row, write_row
from train.embedded import phrases
from train.embedded.generator import Split, conversations
from train.embedded.schema import CHAINS, FUNCTIONS, POOLS, UNSEEN_DOMAINS, Param, Sides, split
from train.embedded.wording import SLOT, fill
from train.messages import Conversation, Message

SPLITS: tuple[Split, ...] = ("train", "seen", "unseen")
TRAINED = [function for function in FUNCTIONS if function.domain not in UNSEEN_DOMAINS]
BY_DESCRIPTION = {text: f for f in FUNCTIONS for text in (f.about, *f.also)}
BY_NAME = {function.name: function for function in FUNCTIONS}
_COUNTS: dict[Split, int] = {"train": 2000, "seen": 500, "unseen": 500}
UNSEEN = {function.name for function in FUNCTIONS if function.domain in UNSEEN_DOMAINS}


@pytest.fixture(scope="module")
def made() -> dict[Split, list[Conversation]]:
    """500 conversations of each held-out split; more of training, where names vary as well."""
    return {split: list(conversations(split, _COUNTS[split], seed=7)) for split in SPLITS}


@pytest.fixture(scope="module", params=SPLITS)
def rows(request: pytest.FixtureRequest, made: dict[Split, list[Conversation]]) -> Any:
    return made[request.param]


# --- the catalogue ---


def test_it_has_many_functions_over_many_domains() -> None:
    assert len(TRAINED) >= 50
    assert len({function.domain for function in TRAINED}) >= 12
    assert len({function.name for function in FUNCTIONS}) == len(FUNCTIONS)
    assert len(UNSEEN) >= 10


def test_training_shows_every_kind_of_parameter() -> None:
    def walk(params: tuple[Param, ...]) -> Iterator[Param]:
        for param in params:
            yield param
            yield from walk(param.fields)

    params = [param for function in TRAINED for param in walk(function.params)]
    kinds = {"string", "integer", "number", "boolean", "enum", "array", "object"}
    assert {param.kind for param in params} == kinds
    assert {param.optional for param in params} == {True, False}
    assert any(not function.params for function in TRAINED)


def _wordings() -> Iterator[tuple[str, Sides[str], tuple[Param, ...]]]:
    """Every set of wordings with its owner and the parameters that it may name."""
    for function in FUNCTIONS:
        yield function.name, function.asks, function.params
        for name, asks in function.missing.items():
            yield f"{function.name} without {name}", asks, function.params
    for chain in CHAINS:
        params = BY_NAME[chain.first].params + BY_NAME[chain.second].params
        yield f"{chain.first} and {chain.second}", chain.asks, params


def test_there_are_many_wordings() -> None:
    assert all(len(function.asks.train) >= 3 for function in TRAINED)
    assert all(function.asks.held_out for function in FUNCTIONS)
    for chain in CHAINS:
        assert chain.asks.held_out
        assert len(chain.asks.train) >= 6 or BY_NAME[chain.first] not in TRAINED
    for function in TRAINED:
        for asks in function.missing.values():
            assert len(asks.train) >= 2
            assert asks.held_out


def test_a_split_is_by_the_member_alone() -> None:
    members = [f"wording {number}" for number in range(10)]
    sides = split(members)
    assert len(sides.held_out) == 2
    assert sorted(sides.train + sides.held_out) == members
    assert {*split(members[::-1]).held_out} == {*sides.held_out}
    assert len(split(members[:3]).held_out) == 1


def test_no_two_functions_share_a_wording() -> None:
    asks = [ask for _, sides, _ in _wordings() for ask in {*sides.train, *sides.held_out}]
    assert [ask for ask, count in Counter(asks).items() if count > 1] == []


def test_a_held_out_wording_is_not_near_to_a_training_wording() -> None:
    trained = [(_plain(ask), ask) for function in TRAINED for ask in function.asks.train]
    near = [
        (held_out, ask)
        for function in FUNCTIONS
        for held_out in function.asks.held_out
        for words, ask in trained
        if SequenceMatcher(None, _plain(held_out), words).ratio() > 0.8
    ]
    assert near == []


def _plain(ask: str) -> list[str]:
    """The words of a wording, with neither what is optional nor case nor punctuation."""
    return re.findall(r"\{[a-z_.]+\}|[\w']+", re.sub(r"\[[^\]]*\]", "", ask).lower())


@pytest.mark.parametrize(
    "sides",
    [phrases.OPENERS, phrases.CLOSERS, phrases.JOINERS, phrases.SUPPLY, phrases.ERRORS],
)
def test_no_phrase_is_in_training_and_held_out(sides: Sides[str]) -> None:
    assert {*sides.train} & {*sides.held_out} <= {""}
    assert {*sides.train} - {""}
    assert {*sides.held_out} - {""}
    talk = phrases.SMALL_TALK
    assert {user for user, _ in talk.train} & {user for user, _ in talk.held_out} == set()


def test_every_wording_fills_for_every_choice_of_optional_parameters() -> None:
    """Every argument is said, what is left out leaves no trace, and a value stands as it is."""
    for owner, sides, params in _wordings():
        leaves = dict(_leaf_params(params, ""))
        optional = [path for path, param in leaves.items() if param.optional]
        for ask in sides.train + sides.held_out:
            for flags in product((True, False), repeat=len(optional)):
                left_out = {path for path, kept in zip(optional, flags, strict=True) if not kept}
                said = fill(ask, _example(params, "", left_out))
                assert not re.search(r"[{}\[\]]|\?[a-z]|  |None| [,.;:?!]|^\s|\s$|,,", said), said
                assert not any(f"<{path}>" in said for path in left_out), (owner, said)


def test_a_wording_names_every_parameter_that_a_call_may_hold() -> None:
    for function in FUNCTIONS:
        leaves = dict(_leaf_params(function.params, ""))
        for ask in function.asks.train + function.asks.held_out:
            named = {*SLOT.findall(ask), *re.findall(r"\?([a-z_]+)\]", ask)}
            assert named == set(leaves), ask
            always = set(SLOT.findall(re.sub(r"\[[^\]]*\]", "", ask)))
            assert always == {path for path, param in leaves.items() if not param.optional}, ask
        required = {path for path, param in leaves.items() if not param.optional}
        for name, sides in function.missing.items():
            for ask in sides.train + sides.held_out:
                assert set(SLOT.findall(ask)) == required - {name}, ask


def _leaf_params(params: tuple[Param, ...], prefix: str) -> Iterator[tuple[str, Param]]:
    for param in params:
        if param.fields:
            yield from _leaf_params(param.fields, f"{prefix}{param.name}.")
        else:
            yield prefix + param.name, param


def _example(params: tuple[Param, ...], prefix: str, left_out: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for param in params:
        path = prefix + param.name
        if param.fields:
            values[param.name] = _example(param.fields, f"{path}.", left_out)
        elif path not in left_out:
            values[param.name] = True if param.kind == "boolean" else f"<{path}>"
    return values


# --- the splits ---


def test_equal_seeds_give_equal_conversations() -> None:
    assert list(conversations("train", 20, 1)) == list(conversations("train", 20, 1))
    assert list(conversations("train", 20, 1)) != list(conversations("train", 20, 2))
    # More rows go on from the same ones.
    assert list(conversations("train", 5, 1)) == list(conversations("train", 20, 1))[:5]


def test_a_training_row_offers_no_unseen_function(made: dict[Split, list[Conversation]]) -> None:
    def offered(split: Split, field: str) -> set[str]:
        return {getattr(tool, field) for row in made[split] for tool in row.tools}

    trained = {function.name for function in TRAINED}
    # Training rows call and describe functions otherwise, too.
    shown = offered("train", "description")
    assert {BY_DESCRIPTION[text].name for text in shown} == trained
    assert shown - {function.about for function in TRAINED}, "no description is reworded"
    assert offered("train", "name") > trained
    assert offered("train", "name") & UNSEEN == set()
    assert offered("seen", "name") == trained
    assert offered("unseen", "name") == UNSEEN


def test_other_names_never_make_two_of_a_kind(made: dict[Split, list[Conversation]]) -> None:
    for row in made["train"]:
        assert len({tool.name for tool in row.tools}) == len(row.tools)
        for tool in row.tools:
            assert len(tool.parameters["properties"]) == len(
                BY_DESCRIPTION[tool.description].params
            )


def _held_out_wordings() -> list[re.Pattern[str]]:
    """The held-out wordings, as patterns that match a user's turn and nothing looser."""
    found = []
    wordings = [(ask, params) for _, sides, params in _wordings() for ask in sides.held_out]
    for ask, params in wordings:
        pattern = ""
        for text, optional, slot in re.findall(r"([^\[{]+)|(\[[^\]]*\])|\{([a-z_.]+)\}", ask):
            pattern += re.escape(text) + (".*" if optional else "")
            pattern += f"({_values(slot.split('.'), params)})" if slot else ""
        # An opener may stand before it and change the case of its first letter.
        openers = "|".join(map(re.escape, phrases.OPENERS.train))
        closers = "|".join(map(re.escape, phrases.CLOSERS.train))
        form = f"({openers}){pattern}({closers})"
        found.append(re.compile(form, re.DOTALL | re.IGNORECASE))
    return found


def _values(path: list[str], params: tuple[Param, ...]) -> str:
    """A pattern of what may fill a slot."""
    (param,) = {param for param in params if param.name == path[0]}
    if param.fields:
        return _values(path[1:], param.fields)
    if param.items:
        one = _values([""], (param.items,))
        return f"({one})((, | and )({one}))*"
    members = POOLS.get(param.values, ()) if isinstance(param.values, str) else param.values
    return "|".join(map(re.escape, members)) or r"[\w.-]+"


def test_no_held_out_wording_stands_in_a_training_row(
    made: dict[Split, list[Conversation]],
) -> None:
    held_out = _held_out_wordings()
    shown = [
        (turn.content, pattern.pattern)
        for row in made["train"]
        for turn in row.messages
        if turn.role == "user"
        for pattern in held_out
        if pattern.fullmatch(turn.content)
    ]
    assert shown == []


def test_no_pooled_value_is_in_training_and_held_out(
    made: dict[Split, list[Conversation]],
) -> None:
    sides: tuple[set[str], set[str]] = (set(), set())
    for pool in POOLS.values():
        for number, entry in enumerate(pool if len(pool) >= 4 else ()):
            sides[number % 4 == 3].add(entry)
    only_train, only_held_out = _words(*sides), _words(*reversed(sides))

    for side in SPLITS:
        foreign = only_held_out if side == "train" else only_train
        found = {word for row in made[side] for s in _strings(row) for word in foreign.findall(s)}
        assert found == set(), split


def _words(ours: set[str], theirs: set[str]) -> re.Pattern[str]:
    """A pattern of our plain entries that stand in none of theirs, as `rice` in `jollof rice`."""
    # Short ones are parts of dates and codes.
    plain = {entry for entry in ours if "{" not in entry and len(entry) > 3}
    alone = sorted(entry for entry in plain if not any(entry in other for other in theirs))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, alone))})(?!\w)")


def _strings(row: Conversation) -> Iterator[str]:
    """All string values of calls and results."""

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for item in value.values():
                yield from walk(item)
        elif isinstance(value, list):
            for item in value:
                yield from walk(item)

    for message in row.messages:
        for call in message.tool_calls:
            # A member of an enum may be a value of a pool, too: only free text counts.
            enums = _enums(row, call.name)
            yield from (s for s in walk(call.arguments) if s not in enums)
        if message.role == "tool":
            yield from walk(json.loads(message.content))


def _enums(row: Conversation, name: str) -> set[str]:
    (tool,) = [tool for tool in row.tools if tool.name == name]
    return {
        member
        for schema in tool.parameters["properties"].values()
        for member in schema.get("enum", ()) or schema.get("items", {}).get("enum", ())
    }


# --- the conversations ---


def test_a_conversation_survives_glaives_layout(rows: list[Conversation]) -> None:
    for row in rows:
        assert parse_row(write_row(row)).conversation == row


def test_a_call_fits_its_functions_schema(rows: list[Conversation]) -> None:
    for row in rows:
        offered = {tool.name: tool.parameters for tool in row.tools}
        for message in row.messages:
            for call in message.tool_calls:
                assert _mistake(call.arguments, offered[call.name]) is None, call


def _mistake(value: Any, schema: dict[str, Any]) -> str | None:
    """What is wrong with a value, for the few words of JSON Schema that the catalogue uses."""
    known = {"type", "properties", "required", "items", "enum", "description"}
    assert set(schema) <= known, "the check below knows no more"
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    expected = types.get(schema["type"], (int, float))
    if not isinstance(value, expected) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return f"{value!r} is no {schema['type']}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is not in {schema['enum']}"
    inner: list[tuple[Any, dict[str, Any]]] = []
    if schema["type"] == "object":
        missing = set(schema.get("required", ())) - set(value)
        unknown = set(value) - set(schema["properties"])
        if missing or unknown:
            return f"missing {missing}, unknown {unknown}"
        inner = [(item, schema["properties"][key]) for key, item in value.items()]
    if schema["type"] == "array":
        if not value:
            return "an empty list"
        inner = [(item, schema["items"]) for item in value]
    return next((found for pair in inner if (found := _mistake(*pair))), None)


def test_no_call_needs_a_guess(rows: list[Conversation]) -> None:
    """Every value was said by the user or returned by an earlier call."""
    for row in rows:
        said = ""
        for message in row.messages:
            if message.role in ("user", "tool"):
                said += message.content.replace('\\"', '"') + "\n"
            for call in message.tool_calls:
                for value in _leaves(call.arguments):
                    # Not as a part of a longer word or number: 5 is not said by 15 or 5.2.
                    assert re.search(rf"(?<![\w.]){re.escape(value)}(?!\w|\.\d)", said), call


def _leaves(value: Any) -> Iterator[str]:
    """The values of a call as text; a boolean is told by a wording and cannot be looked up."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif not isinstance(value, bool):
        yield str(value)


def test_no_wording_keeps_a_slot_or_an_optional_part(rows: list[Conversation]) -> None:
    # Some values hold braces on purpose: `Build {{100-999}} failed` becomes `Build {851} failed`.
    starts = {entry.split("{{")[0] for pool in POOLS.values() for entry in pool if "{{" in entry}
    on_purpose = re.compile(rf"({'|'.join(map(re.escape, starts))})\{{[^{{}}]+\}}")
    for row in rows:
        for message in row.messages:
            text = message.content if message.role in ("user", "assistant") else ""
            assert not re.search(r"[{}\[\]]|None|\?[a-z_]+\b", on_purpose.sub("", text)), text


def test_the_values_hold_what_breaks_naive_code() -> None:
    text = "\n".join(value for pool in POOLS.values() for value in pool)
    for needed in ("'", '"', "{", "}", "é", "ń", "ß", "&", ":"):
        assert needed in text


# --- the kinds of exchange ---


def _kinds(row: Conversation) -> set[str]:
    kinds: set[str] = set()
    replies = {reply for _, reply in phrases.SMALL_TALK.train + phrases.SMALL_TALK.held_out}
    for before, message, after in zip(
        (None, *row.messages), row.messages, (*row.messages[1:], None), strict=False
    ):
        if message.role != "assistant":
            continue
        if not row.tools:
            kinds.add("no tool")
        elif message.content == phrases.REFUSAL:
            kinds.add("refusal")
        elif message.content in replies:
            kinds.add("small talk")
        elif message.content.startswith("Please tell me the "):
            kinds.add("missing argument")
        elif message.tool_calls:
            kinds.add(_kind_of_call(before, message, after))
    return kinds


def _kind_of_call(before: Message | None, message: Message, after: Message | None) -> str:
    assert before is not None
    assert after is not None
    if before.role == "tool":
        return "chain"
    if len(message.tool_calls) > 1:
        return "parallel"
    return "error" if "error" in json.loads(after.content) else "one call"


KINDS = {"refusal", "small talk", "missing argument", "one call", "parallel", "chain", "error"}


def test_500_conversations_show_every_kind(made: dict[Split, list[Conversation]]) -> None:
    for side in SPLITS:
        counts = Counter(kind for row in made[side][:500] for kind in _kinds(row))
        assert set(counts) == KINDS | ({"no tool"} if side == "train" else set())
        assert min(counts.values()) >= 5, counts


def test_every_function_is_called_in_training(made: dict[Split, list[Conversation]]) -> None:
    called = set()
    for row in made["train"]:
        functions = {tool.name: BY_DESCRIPTION[tool.description] for tool in row.tools}
        called |= {functions[call.name].name for turn in row.messages for call in turn.tool_calls}
    assert called == {function.name for function in TRAINED}
