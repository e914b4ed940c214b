"""The template: golden prompts, the mask, and calls that come back as they went in.

A golden file is the exact text of tests/golden/<name>.txt. A change of one changes what models are
trained on: releases made before it must still be served with the template sealed in them.
"""

from __future__ import annotations

import hashlib
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from train.embedded.generator import conversations
from train.encode import encode
from train.messages import Conversation, Message, Tool, ToolCall
from train.template import KNOWN, TEMPLATES, Template, prompt

GOLDEN = Path(__file__).parent.parent / "golden"
WEATHER = Tool(
    name="get_weather",
    description="The weather in a city",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)
TIME = Tool(name="get_time")


def user(content: str) -> Message:
    return Message(role="user", content=content)


def said(content: str, *calls: tuple[str, dict[str, Any]]) -> Message:
    tool_calls = tuple(ToolCall(name=name, arguments=arguments) for name, arguments in calls)
    return Message(role="assistant", content=content, tool_calls=tool_calls)


def result(content: str) -> Message:
    return Message(role="tool", content=content)


PARIS = ("get_weather", {"city": "Paris", "days": 3})
ODD = {
    "city": 'Saint-"Dié"-l\'Été',
    "note": "a\nb\\c {x} </b> 東京 🌧",
    "on": {"x": [1, 2.5, None]},
}
PROMPTS: dict[str, Conversation] = {
    "plain": Conversation(messages=(user("Hello"),)),
    "system_and_tools": Conversation(
        messages=(Message(role="system", content="Be brief."), user("Weather in Paris?")),
        tools=(WEATHER, TIME),
    ),
    "one_call": Conversation(
        messages=(user("Weather in Paris?"), said("", PARIS)), tools=(WEATHER,)
    ),
    "two_calls": Conversation(
        messages=(user("Weather in Paris, and the time?"), said("", PARIS, ("get_time", {}))),
        tools=(WEATHER, TIME),
    ),
    "text_and_call": Conversation(
        messages=(user("Weather in Paris?"), said("Let me look.", PARIS)), tools=(WEATHER,)
    ),
    "tool_result": Conversation(
        messages=(
            user("Weather in Paris?"),
            said("", PARIS),
            result('{"sky": "clear"}'),
            said("It is clear."),
            user("Thanks"),
        ),
        tools=(WEATHER,),
    ),
    "unicode_and_quotes": Conversation(
        messages=(user('Wie ist\'s in "Zürich"? 東京も'), said("", ("get_weather", ODD))),
        tools=(WEATHER,),
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_the_golden_one(templated: tuple[Template, Any], name: str) -> None:
    template, tokenizer = templated
    conversation = PROMPTS[name]
    text = prompt(tokenizer, conversation.messages, conversation.tools)
    assert text == (GOLDEN / template.name / f"{name}.txt").read_text(encoding="utf-8")


def test_what_is_trained_starts_as_what_is_asked(tokenizer: Any) -> None:
    """The tokens before an answer are the same in a training row and in a request."""
    for conversation in conversations("train", 10, 3):
        whole = encode(tokenizer, conversation)
        for turn, message in enumerate(conversation.messages):
            if message.role == "assistant":
                text = prompt(tokenizer, conversation.messages[:turn], conversation.tools)
                asked = tokenizer(text, add_special_tokens=False)["input_ids"]
                assert whole.input_ids[: len(asked)] == asked
                assert whole.trained[len(asked)]
                assert not whole.trained[len(asked) - 1]


@pytest.mark.parametrize("name", ["one_call", "two_calls", "text_and_call", "tool_result"])
def test_the_mask_covers_the_assistants_turns_and_nothing_else(tokenizer: Any, name: str) -> None:
    conversation = PROMPTS[name]
    encoded = encode(tokenizer, conversation)
    pairs = zip(encoded.input_ids, encoded.trained, strict=True)
    trained = [
        tokenizer.decode([token for token, _ in run])
        for is_trained, run in groupby(pairs, key=lambda pair: pair[1])
        if is_trained
    ]
    expected = []
    for message in conversation.messages:
        if message.role == "assistant":
            calls = [_written(tokenizer, call) for call in message.tool_calls]
            text = "\n".join([message.content] * bool(message.content) + calls)
            expected.append(f"{text}<|im_end|>")
    assert trained == expected


def _written(tokenizer: Any, call: ToolCall) -> str:
    """A call as the template writes it, taken out of a row that holds nothing else."""
    row = prompt(tokenizer, [user("u"), said("", (call.name, call.arguments))], ())
    return row.split("<|im_start|>assistant\n")[1].removesuffix("<|im_end|>\n")


def test_a_row_of_any_kind_trains_something(tokenizer: Any) -> None:
    for conversation in conversations("train", 30, 5):
        turns = [message for message in conversation.messages if message.role == "assistant"]
        trained = [on for on, _ in groupby(encode(tokenizer, conversation).trained) if on]
        assert len(trained) == len(turns)


def test_the_hash_is_of_the_source() -> None:
    template = KNOWN["chatml-hermes"]
    assert template.source.endswith((TEMPLATES / "chatml-hermes.jinja").read_text(encoding="utf-8"))
    assert template.sha256 == hashlib.sha256(template.source.encode()).hexdigest()
