"""Rendered turns and odd texts, read by vLLM's own parser classes in vLLM's environment."""

from __future__ import annotations

import json
import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from serve.vllm.plugins import PARSER_PLUGINS
from tests.conversations import CONVERSATIONS, MARKS
from train.closed_loop import QUIET, WORKER, ClosedLoopError, check, written
from train.embedded.generator import conversations
from train.messages import Conversation, Message, ToolCall
from train.template import ControlTokens, Template
from train.toolcalls import Answer

NAME_LAST = '{"arguments": {}, "name": "g"}'
PYTHON = Path(__file__).parent.parent.parent / ".venvs" / "vllm" / "bin" / "python"

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PYTHON.is_file(), reason="vLLM is not installed"),
]


@dataclass(frozen=True)
class Read:
    """What vLLM makes of a text, and what we make of it."""

    text: str
    whole: dict[str, Any]
    streamed: dict[str, Any]
    ours: Answer


def odd_texts(template: Template, count: int) -> list[str]:
    """Well-formed, nearly well-formed and broken answers, always the same ones."""
    parser = template.parser
    call = '{"name": "f", "arguments": {"a": "b", "c": [1, {}]}}'
    pieces = [
        *(parser.begins, parser.ends, f"{parser.begins}{call}{parser.ends}"),
        *(f"{parser.begins}[{call}, {call}]{parser.ends}", f"{parser.begins}[{call}"),
        *(call, NAME_LAST, '{"name": "f"}', '{"name": 1, "arguments": {}}'),
        *('{"name": "f", "arguments": []}', "text", "\n", " ", "[", "]", "{", "}", ",", "null"),
        *(mark for mark in MARKS if mark != "\x00"),
    ]
    random_ = random.Random(1)
    return ["".join(random_.choices(pieces, k=random_.randint(0, 6))) for _ in range(count)]


@pytest.fixture(scope="module")
def read(templated: tuple[Template, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Read]:
    template, tokenizer = templated
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    texts = odd_texts(template, 3000)
    parser = template.engines.vllm_tool_parser
    plugin = [str(PARSER_PLUGINS[parser])] if parser in PARSER_PLUGINS else []
    done = subprocess.run(
        [str(PYTHON), str(WORKER), parser, str(folder), *plugin],
        input="".join(json.dumps(text) + "\n" for text in texts),
        capture_output=True,
        text=True,
        env=os.environ | QUIET,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()[1:]]
    return [
        Read(text, answer["whole"], answer["streamed"], template.parser.parse(text))
        for text, answer in zip(texts, answers, strict=True)
    ]


def test_our_parser_reads_what_vllms_reads(read: list[Read]) -> None:
    """But for arguments that are no object, which vLLM's hermes parser hands on."""
    calling = 0
    for item in read:
        calls = [ToolCall.model_construct(**call) for call in item.whole["calls"]]
        arguments = [json.loads(str(call.arguments)) for call in calls]
        if not all(isinstance(value, dict) for value in arguments):
            assert not item.ours.well_formed
            continue
        assert [call.name for call in calls] == [call.name for call in item.ours.calls], item
        assert arguments == [call.arguments for call in item.ours.calls], item
        content = item.whole["content"]
        assert (content.rstrip("\n") if calls else content) == item.ours.content, item
        calling += bool(calls)
    # The texts are of both kinds.
    assert 100 < calling < len(read) - 100


def test_a_stream_brings_what_the_whole_text_holds(read: list[Read]) -> None:
    """Of readable answers: in others a stream has sent what it had before the fault came.

    vLLM's hermes parser streams only calls that begin with the name, as the template writes them.
    """
    compared = 0
    for item in read:
        if "<tool_call>" in item.text and NAME_LAST in item.text:
            continue
        if item.ours.well_formed and item.ours.calls:
            names = [call["name"] for call in item.streamed["calls"]]
            assert names == [call.name for call in item.ours.calls], item
            arguments = [json.loads(call["arguments"]) for call in item.streamed["calls"]]
            assert arguments == [call.arguments for call in item.ours.calls], item
            assert item.streamed["content"].rstrip("\n") == item.ours.content, item
            compared += 1
    assert compared > 100


def test_any_rows_come_back_from_vllm(templated: tuple[Template, Any]) -> None:
    template, tokenizer = templated
    control = ControlTokens(tokenizer)
    rows: list[Conversation] = []

    @settings(max_examples=300, phases=[Phase.generate], derandomize=True, database=None)
    @given(CONVERSATIONS)
    def collect(row: Conversation) -> None:
        if control.first_in(row) is None:
            rows.append(_as_openai_names(row))

    collect()
    done: list[int] = []
    checked = check(tokenizer, template, rows, PYTHON, done.append)
    assert checked.turns > 50
    assert checked.calls > 50
    assert template.engines.vllm_tool_parser in checked.parser
    assert done == sorted(done)


def _as_openai_names(row: Conversation) -> Conversation:
    """Function names as OpenAI's interface allows them: others, vLLM's hermes stream cuts."""
    messages = tuple(
        message.model_copy(
            update={
                "tool_calls": tuple(
                    call.model_copy(update={"name": f"f_{len(call.name)}-x"})
                    for call in message.tool_calls
                )
            }
        )
        for message in row.messages
    )
    return row.model_copy(update={"messages": messages})


def test_a_template_that_drops_a_brace_stops_the_run(templated: tuple[Template, Any]) -> None:
    """The fault of the Nemotron model card's own template."""
    template, tokenizer = templated
    source = tokenizer.chat_template
    rows = list(conversations("train", 5, 0))
    turn, message = next(
        (number, message)
        for number, message in enumerate(rows[0].messages, 1)
        if message.tool_calls
    )
    try:
        # Each template closes a call with one brace of its own.
        tokenizer.chat_template = source.replace("{{- '}' -}}\n{%- endfor", "{%- endfor").replace(
            "{{- '}\\n</tool_call>' -}}", "{{- '\\n</tool_call>' -}}"
        )
        assert tokenizer.chat_template != source
        for python in (PYTHON, None):
            with pytest.raises(ClosedLoopError) as caught:
                check(tokenizer, template, rows, python)
            assert f"training row 1, turn {turn}:" in str(caught.value)
            assert f"reads 0 calls instead of {len(message.tool_calls)}" in str(caught.value)
    finally:
        tokenizer.chat_template = source


def test_an_environment_without_vllm_is_named(
    templated: tuple[Template, Any], tmp_path: Path
) -> None:
    template, tokenizer = templated
    rows = list(conversations("train", 2, 0))
    with pytest.raises(ClosedLoopError, match="none/python cannot be started"):
        check(tokenizer, template, rows, tmp_path / "none" / "python")
    empty = tmp_path / "python"
    empty.write_text("#!/bin/sh\necho 'No module named vllm' >&2\nexit 1\n")
    empty.chmod(0o755)
    with pytest.raises(ClosedLoopError, match="No module named vllm"):
        check(tokenizer, template, rows, empty)


def test_turns_are_written_without_their_end(templated: tuple[Template, Any]) -> None:
    template, tokenizer = templated
    calls = (ToolCall(name="f", arguments={}),)
    row = Conversation(
        messages=(
            Message(role="user", content="u"),
            Message(role="assistant", content="a", tool_calls=calls),
            Message(role="tool", content="r"),
            Message(role="assistant", content="b"),
        )
    )
    first, second = written(tokenizer, 7, row)
    assert (first.row, first.turn, second.turn, second.text) == (7, 2, 4, "b")
    assert template.parser.parse(first.text).calls == calls
