"""The embedded data set: seeded conversations to write in Glaive v2's raw layout.

A conversation offers a few functions and strings together a few exchanges: one call, parallel
calls, a chain, a missing argument, an error, a refusal, small talk. Three splits share no wording
of a full request and no pooled value: `train`, `seen` (the functions of training) and `unseen`
(functions never trained on).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

from train.embedded import phrases
from train.embedded.naming import Names, other_names
from train.embedded.schema import (
    CHAINS,
    FUNCTIONS,
    POOLS,
    UNSEEN_DOMAINS,
    Chain,
    Function,
    Param,
    Sides,
    object_schema,
)
from train.embedded.wording import ENDS, SLOT, fill, joined, kept_parts, put
from train.messages import Conversation, Message, Tool, ToolCall

Split = Literal["train", "seen", "unseen"]
T = TypeVar("T")
BY_NAME = {function.name: function for function in FUNCTIONS}
# What a pool's entry draws from: another pool or a range.
_SOURCE = re.compile(r"\{([a-z]+|\d+-\d+)\}")
_BOUNDS = re.compile(r"(\d+)-(\d+)")


def conversations(split: Split, count: int, seed: int) -> Iterator[Conversation]:
    """`count` conversations of a split; equal arguments give equal conversations."""
    for index in range(count):
        yield _Writer(split, random.Random(f"{seed}/{split}/{index}")).conversation()


class _Writer:
    """Writes one conversation with its own random source."""

    def __init__(self, split: Split, rng: random.Random) -> None:
        self.rng = rng
        self.held_out = split != "train"
        self.functions = [
            function
            for function in FUNCTIONS
            if (function.domain in UNSEEN_DOMAINS) == (split == "unseen")
        ]
        self.messages: list[Message] = []
        self.names: dict[str, Names] = {}
        self.done: set[str] = set()

    def conversation(self) -> Conversation:
        """One conversation: its tools, then two or three exchanges about them."""
        if not self.held_out and self.rng.random() < 0.03:
            self._say(self.rng.choice(phrases.QUESTIONS))
            return Conversation(messages=tuple(self.messages))
        offered = self._offered(self.rng.choice((1, 1, 1, 1, 2, 2, 3)))
        chain = self._chain_of(offered)
        # Short held-out rows: earlier calls in the context would show even the base how to call.
        for number in range(self.rng.choice((1, 1, 2) if self.held_out else (2, 3))):
            self._exchange(offered, chain if number == 0 else None)
        if self.rng.random() < 0.15:
            self._say(self._side(phrases.SMALL_TALK))
        self.rng.shuffle(offered)
        tools = tuple(self._tool_of(function) for function in offered)
        return Conversation(messages=tuple(self.messages), tools=tools)

    def _named(self, function: Function) -> Names:
        """What this conversation calls a function; held-out rows keep the catalogue's names."""
        if function.name not in self.names:
            self.names[function.name] = (
                Names(function.name, function.about)
                if self.held_out
                else other_names(function, {n.function for n in self.names.values()}, self.rng)
            )
        return self.names[function.name]

    def _tool_of(self, function: Function) -> Tool:
        names = self._named(function)
        return Tool(
            name=names.function,
            description=names.about,
            parameters=object_schema(names.schema(function.params)),
        )

    def _offered(self, count: int) -> list[Function]:
        """Functions to offer; those with few parameters come more often, as they do in use."""
        offered: list[Function] = []
        while len(offered) < count:
            weights = [1 / (1 + len(function.params)) for function in self.functions]
            function = self.rng.choices(self.functions, weights)[0]
            if function not in offered:
                offered.append(function)
        return offered

    def _chain_of(self, offered: list[Function]) -> Chain | None:
        """Some conversations take a chain, and is offered what that needs."""
        known = {function.name for function in self.functions}
        chains = [chain for chain in CHAINS if {chain.first, chain.second} <= known]
        # Twice as often in training as in the held-out rows: the second call is hard to learn.
        if self.rng.random() >= (0.08 if self.held_out else 0.16):
            return None
        chain = self.rng.choice(chains)
        for name in (chain.first, chain.second):
            if BY_NAME[name] not in offered:
                offered.append(BY_NAME[name])
        return chain

    def _exchange(self, offered: Sequence[Function], chain: Chain | None) -> None:
        if chain:
            self._chain(chain)
            return
        function = self.rng.choice(offered)
        kinds: list[tuple[float, Callable[[Function], None]]] = [
            (0.70, self._single),
            (0.08, lambda f: self._parallel(f, self.rng.choice(offered))),
            (0.08, self._missing),
            (0.07, self._error),
            (0.07, lambda _: self._refusal(offered)),
        ]
        weights, writers = zip(*kinds, strict=True)
        self.rng.choices(writers, weights)[0](function)

    # --- exchanges ---

    def _single(self, function: Function) -> None:
        if function.params:
            arguments = self._arguments(function)
        elif function.name in self.done:
            # Nothing could be asked in another way: a repetition would teach, and test, copying.
            self._say(self._side(phrases.SMALL_TALK))
            return
        else:
            arguments = {}
        self._user(self._ask(function.asks, arguments))
        self._call_and_answer(function, arguments)

    def _parallel(self, first: Function, second: Function) -> None:
        pairs = [(first, self._arguments(first)), (second, self._arguments(second))]
        if pairs[0] == pairs[1]:
            self._single(first)
            return
        head, tail = [
            kept_parts(self._side(function.asks), arguments) for function, arguments in pairs
        ]
        # A line of its own, where a value would go on otherwise.
        gap = " " if head.endswith(ENDS) else "\n"
        joiner = self._side(phrases.JOINERS)
        self._user(
            self._opened(head, put(head, pairs[0][1]))
            + f"{gap}{joiner} {joined(joiner, tail, put(tail, pairs[1][1]))}"
            + self._closer(tail)
        )
        self._calls(pairs)
        results = [self._result(function, arguments) for function, arguments in pairs]
        for result in results:
            self._tool(result)
        self._assistant(
            " ".join(
                fill(f.answer, {**arguments, **result})
                for (f, arguments), result in zip(pairs, results, strict=True)
            )
        )

    def _chain(self, chain: Chain) -> None:
        first, second = BY_NAME[chain.first], BY_NAME[chain.second]
        wording = self._side(chain.asks)
        slots = set(SLOT.findall(wording))
        head = self._arguments(first, only=slots)
        tail = self._arguments(second, only=slots)
        self._user(self._dressed(wording, {**head, **tail}))
        result = self._result(first, head)
        self._calls([(first, head)])
        self._tool(result)
        for parameter, key in chain.feeds.items():
            tail[parameter] = result[key]
        ordered = {p.name: tail[p.name] for p in second.params if p.name in tail}
        self._call_and_answer(second, ordered)

    def _missing(self, function: Function) -> None:
        if not function.missing:
            self._single(function)
            return
        name = self.rng.choice(sorted(function.missing))
        wording = self._side(function.missing[name])
        slots = set(SLOT.findall(wording))
        arguments = self._arguments(function, only=slots | {name})
        self._user(self._dressed(wording, arguments))
        wanted = self._named(function).params.get(name, name)
        self._assistant(f"Please tell me the {wanted.replace('_', ' ')}.")
        self._user(fill(self._side(phrases.SUPPLY), {"value": arguments[name]}))
        self._call_and_answer(function, arguments)

    def _error(self, function: Function) -> None:
        arguments = self._arguments(function)
        self._user(self._ask(function.asks, arguments))
        self._calls([(function, arguments)])
        error = self._side(phrases.ERRORS)
        self._tool({"error": error})
        self._assistant(f"Sorry, that did not work: {error}.")

    def _refusal(self, offered: Sequence[Function]) -> None:
        domains = {function.domain for function in offered}
        known = FUNCTIONS if self.held_out else self.functions
        others = [function for function in known if function.domain not in domains]
        other = self.rng.choice(others)
        self._user(self._ask(other.asks, self._arguments(other)))
        self._assistant(phrases.REFUSAL)

    def _say(self, exchange: tuple[str, str]) -> None:
        user, assistant = exchange
        self._user(user)
        self._assistant(assistant)

    def _call_and_answer(self, function: Function, arguments: dict[str, Any]) -> None:
        self._calls([(function, arguments)])
        result = self._result(function, arguments)
        self._tool(result)
        self._assistant(fill(function.answer, {**arguments, **result}))

    # --- turns ---

    def _user(self, content: str) -> None:
        self.messages.append(Message(role="user", content=content))

    def _assistant(self, content: str) -> None:
        self.messages.append(Message(role="assistant", content=content))

    def _calls(self, calls: Sequence[tuple[Function, dict[str, Any]]]) -> None:
        self.done |= {function.name for function, _ in calls}
        named = tuple(
            ToolCall(name=names.function, arguments=names.arguments(arguments))
            for names, arguments in ((self._named(f), values) for f, values in calls)
        )
        self.messages.append(Message(role="assistant", tool_calls=named))

    def _tool(self, result: dict[str, Any]) -> None:
        self.messages.append(Message(role="tool", content=phrases.dump(result)))

    # --- wordings and values ---

    def _side(self, sides: Sides[T]) -> T:
        """A member of the side that this split may use."""
        return self.rng.choice(sides.of(self.held_out))

    def _ask(self, asks: Sides[str], arguments: dict[str, Any]) -> str:
        return self._dressed(self._side(asks), arguments)

    def _dressed(self, wording: str, arguments: dict[str, Any]) -> str:
        """A filled wording between an opener and a closer."""
        kept = kept_parts(wording, arguments)
        return self._opened(kept, put(kept, arguments)) + self._closer(kept)

    def _opened(self, kept: str, filled: str) -> str:
        opener = self._side(phrases.OPENERS) if self.rng.random() < 0.4 else ""
        return f"{opener}{joined(opener.rstrip(), kept, filled)}"

    def _closer(self, kept: str) -> str:
        """Something after a whole sentence; after a bare value it could be taken for its end."""
        wanted = kept.endswith(ENDS) and self.rng.random() < 0.25
        return self._side(phrases.CLOSERS) if wanted else ""

    def _pick(self, pool: Sequence[Any]) -> Any:
        """A member of a pool of values: every fourth is kept for the held-out rows."""
        kept = [v for i, v in enumerate(pool) if (i % 4 == 3) == self.held_out]
        return self.rng.choice(pool if len(pool) < 4 else kept)

    def _arguments(self, function: Function, only: set[str] | None = None) -> dict[str, Any]:
        """Values for the function's parameters; with `only`, for those slots of a wording alone."""
        return self._values(function.params, only, "")

    def _values(
        self, params: Sequence[Param], only: set[str] | None, prefix: str
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for param in params:
            slot = prefix + param.name
            if param.fields:
                inner = self._values(param.fields, only, f"{slot}.")
                if inner:
                    values[param.name] = inner
            elif slot in only if only is not None else self._chosen(param):
                values[param.name] = self._value(param)
        return values

    def _chosen(self, param: Param) -> bool:
        return not param.optional or self.rng.random() < 0.35

    def _value(self, param: Param) -> Any:
        if param.kind == "boolean":
            return True
        if param.kind == "integer":
            return self.rng.randint(int(param.low), int(param.high))
        if param.kind == "number":
            return round(self.rng.uniform(param.low, param.high), self.rng.choice((1, 2)))
        if param.items:
            wanted = self.rng.choice((1, 2, 2, 3))
            return list(dict.fromkeys(self._value(param.items) for _ in range(wanted)))
        if isinstance(param.values, tuple):
            return self.rng.choice(param.values)
        return self._pooled(param.values)

    def _pooled(self, pool: str) -> str:
        if pool.startswith("code:"):
            return f"{pool.removeprefix('code:')}-{self.rng.randint(1000, 9999)}"
        entry = str(self._pick(POOLS[pool]))
        return _SOURCE.sub(lambda match: self._drawn(match.group(1)), entry)

    def _drawn(self, source: str) -> str:
        bounds = _BOUNDS.fullmatch(source)
        if bounds:
            return str(self.rng.randint(int(bounds.group(1)), int(bounds.group(2))))
        return self._pooled(source)

    def _result(self, function: Function, arguments: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, form in function.result.items():
            if isinstance(form, str) and form[0] == "@":
                result[key] = self._pooled(form[1:])
            elif isinstance(form, str) and form[0] == "#":
                low, high = form[1:].split("-")
                result[key] = self.rng.randint(int(low), int(high))
            elif isinstance(form, str) and form[0] == "&":
                result[key] = self._pooled(f"code:{form[1:]}")
            else:
                result[key] = form
        return result
