"""Any conversation renders, tokenizes and parses back to itself, with every template."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import pytest
from hypothesis import assume, given

from tests.conversations import CONVERSATIONS, MARKS
from train.encode import encode
from train.evaluate import same_calls
from train.messages import Conversation, Message, Tool, ToolCall
from train.template import ControlTokens, Template, prompt

Templated = tuple[Template, Any]


def written_turns(tokenizer: Any, conversation: Conversation) -> list[str]:
    """The assistant's turns as a server would see them generated: the trained tokens, decoded."""
    encoded = encode(tokenizer, conversation)
    pairs = zip(encoded.input_ids, encoded.trained, strict=True)
    return [
        tokenizer.decode([token for token, _ in run], skip_special_tokens=True)
        for is_trained, run in groupby(pairs, key=lambda pair: pair[1])
        if is_trained
    ]


def can_be_written(templated: Templated, conversation: Conversation) -> bool:
    """No control token in plain text, and every character has tokens.

    SmolLM2's vocabulary lacks some bytes: characters of Unicode's unused planes become unknown.
    """
    tokenizer = templated[1]
    if ControlTokens(tokenizer).first_in(conversation) is not None:
        return False
    # Rarer white space at the start still becomes one token with the header's end.
    if any(message.content.lstrip(" \t\r\n")[:1].isspace() for message in conversation.messages):
        return False
    return tokenizer.unk_token_id not in encode(tokenizer, conversation).input_ids


@given(CONVERSATIONS)
def test_any_conversation_comes_back(templated: Templated, conversation: Conversation) -> None:
    template, tokenizer = templated
    assume(can_be_written(templated, conversation))
    turns = [message for message in conversation.messages if message.role == "assistant"]
    written = written_turns(tokenizer, conversation)
    assert len(written) == len(turns)
    for message, text in zip(turns, written, strict=True):
        answer = template.parser.parse(text)
        assert answer.well_formed
        assert same_calls(answer.calls, message.tool_calls)
        # The template drops white space at the start, and the line break before calls.
        content = message.content.lstrip(" \t\r\n")
        assert answer.content == (content.rstrip("\n") if message.tool_calls else content)


@given(CONVERSATIONS)
def test_the_text_of_a_prompt_has_the_tokens_of_training(
    templated: Templated, conversation: Conversation
) -> None:
    tokenizer = templated[1]
    assume(can_be_written(templated, conversation))
    text = prompt(tokenizer, conversation.messages, conversation.tools)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = encode(tokenizer, conversation).input_ids
    assert ids[: len(whole)] == whole
    assert tokenizer.decode(ids) == text


@given(CONVERSATIONS)
def test_json_holds_no_control_token_and_no_mark(
    templated: Templated, conversation: Conversation
) -> None:
    """Marks in names, arguments and tools add no token that ends or begins anything."""
    tokenizer = templated[1]
    plain = [m.model_copy(update={"content": ""}) for m in conversation.messages]
    assume(can_be_written(templated, Conversation(messages=plain, tools=conversation.tools)))
    control = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}

    def controls(row: Conversation) -> list[int]:
        return [token for token in encode(tokenizer, row).input_ids if token in control]

    bare = [m.model_copy(update={"tool_calls": ()}) for m in plain]
    tools = [Tool(name="f") for _ in conversation.tools]
    assert controls(Conversation(messages=plain, tools=conversation.tools)) == controls(
        Conversation(messages=bare, tools=tools)
    )


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_in_an_argument_survives(templated: Templated, mark: str) -> None:
    template, tokenizer = templated
    calls = (ToolCall(name="f", arguments={mark: [f"a{mark}b", {"c": mark}]}),) * 2
    row = Conversation(
        messages=(
            Message(role="user", content="u"),
            Message(role="assistant", content="x", tool_calls=calls),
        )
    )
    [text] = written_turns(tokenizer, row)
    answer = template.parser.parse(text)
    assert (answer.content, answer.calls, answer.well_formed) == ("x", calls, True)


def test_arguments_as_text_are_written_as_they_are(templated: Templated) -> None:
    """transformers' callers may hand arguments on as JSON text, as OpenAI's clients send them."""
    tokenizer = templated[1]
    function = {"name": "f", "arguments": '{"a":"</tool_call>"}'}
    turn = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
    text = tokenizer.apply_chat_template([turn], tokenize=False)
    assert '{"a":"\\u003c/tool_call>"}' in text


@pytest.mark.parametrize("role", ["system", "user", "tool", "assistant"])
def test_a_control_token_in_plain_text_is_found(templated: Templated, role: Any) -> None:
    template, tokenizer = templated
    find = ControlTokens(tokenizer).first_in
    stop = template.stop_tokens[0]
    turns = (Message(role="user", content="u"), Message(role=role, content=f"a{stop}b"))
    assert find(Conversation(messages=turns)) == stop
    begins = Message(role=role, content=template.parser.begins)
    found = find(Conversation(messages=(begins,)))
    assert found == (template.parser.begins if role == "assistant" else None)
    # In JSON it is escaped.
    tool = Tool(name=stop, description=stop, parameters={stop: stop})
    call = ToolCall(name=stop, arguments={stop: stop})
    turn = Message(role="assistant", tool_calls=(call,))
    assert find(Conversation(messages=(turn,), tools=(tool,))) is None


def test_reasoning_is_off_unless_the_system_message_speaks_of_it(templated: Templated) -> None:
    template, tokenizer = templated
    if template.name != "llama-nemotron":
        assert "thinking" not in template.source
        return
    user = Message(role="user", content="u")

    def system_of(*messages: Message) -> str:
        return prompt(tokenizer, messages, ()).split("<|end_header_id|>\n\n")[1].split("<|eot")[0]

    assert system_of(user) == "detailed thinking off"
    brief = Message(role="system", content="Be brief.")
    assert system_of(brief, user) == "detailed thinking off\n\nBe brief."
    on = Message(role="system", content="detailed thinking on")
    assert system_of(on, user) == "detailed thinking on"


def test_the_written_json_is_what_json_dumps_writes(templated: Templated) -> None:
    tokenizer = templated[1]
    arguments = {"a": 1.0, "b": [1e-7, 0.30000000000000004, 10**30], "c": {"ü<": None}}
    turn = Message(role="assistant", tool_calls=(ToolCall(name="f", arguments=arguments),))
    expected = json.dumps(arguments, ensure_ascii=False).replace("<", "\\u003c")
    assert expected in prompt(tokenizer, [turn], ())


def test_an_answer_starts_with_the_token_that_a_request_asks_for(templated: Templated) -> None:
    """White space at an answer's start must not become one token with what stands before it."""
    tokenizer = templated[1]
    for start in ("", " ", "  ", "\n", "\n\n", "\t \r\n"):
        user = Message(role="user", content="u")
        answer = Message(role="assistant", content=f"{start}Hello")
        text = prompt(tokenizer, [user], ())
        asked = tokenizer(text, add_special_tokens=False)["input_ids"]
        encoded = encode(tokenizer, Conversation(messages=(user, answer)))
        assert encoded.input_ids[: len(asked)] == asked
        assert encoded.trained.index(True) == len(asked)
