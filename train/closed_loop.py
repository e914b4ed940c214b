"""The closed loop: what is trained must be what a server reads back.

Before training, every assistant turn is rendered and read by the parser that serves the release:
vLLM's own class, run in vLLM's environment, whole and as a stream; where vLLM is not installed, by
the equal parser of train/toolcalls.py. A turn that does not come back as it was stops the run.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

# The one thing of the servers that training knows: which file reads the calls of which parser.
from serve.vllm.plugins import PARSER_PLUGINS
from train.errors import TrainError
from train.evaluate import same_calls
from train.messages import Conversation, Message, ToolCall
from train.template import Template, template_variables

log = logging.getLogger(__name__)

SHOWN = 400  # characters of a text in a message
WORKER = Path(__file__).parent / "vllm_parse.py"
# Only classes are used: no GPU, no network, one thread.
QUIET = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",
}


class ClosedLoopError(TrainError):
    """A turn is not read back as it was written, or vLLM's parser cannot be run."""


@dataclass(frozen=True)
class Turn:
    """An assistant's turn: row and turn counted from 1, the message, and the text it becomes."""

    row: int
    turn: int
    message: Message
    text: str


@dataclass(frozen=True)
class Checked:
    """What was read back without a difference; `parser` says by whom."""

    turns: int
    calls: int
    parser: str


def check(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    rows: Sequence[Conversation],
    vllm_python: Path | None,
    on_done: Callable[[int], None] = lambda rows: None,
) -> Checked:
    """Read every assistant turn back; `on_done` gets the number of rows finished.

    `vllm_python` is the interpreter of vLLM's environment, or None where there is none.

    Raises:
        ClosedLoopError: with the row, the turn and the first difference.
    """
    turns = [turn for number, row in enumerate(rows, 1) for turn in written(tokenizer, number, row)]
    if vllm_python is None:
        log.warning(
            "vLLM is not installed: the rows are read back by Toolsmith's parser, which the tests "
            "hold equal to vLLM's. `python3 environments.py vllm` installs it"
        )
        parser = f"Toolsmith's {template.tool_format} parser"
        for turn in turns:
            answer = template.parser.parse(turn.text)
            _compare(turn, parser, answer.content, answer.calls)
            on_done(turn.row)
    else:
        with closing(_vllm_answers(tokenizer, template, vllm_python, turns)) as answers:
            parser = f"vLLM {next(answers)}'s {template.engines.vllm_tool_parser} parser"
            for turn in turns:
                for way, read in next(answers).items():
                    _compare(turn, f"{parser} ({way})", read["content"], _calls(turn, read))
                on_done(turn.row)
    return Checked(len(turns), sum(len(turn.message.tool_calls) for turn in turns), parser)


def written(tokenizer: PreTrainedTokenizerBase, number: int, row: Conversation) -> Iterator[Turn]:
    """The assistant's turns of a row as text, without the mark that ends a turn."""
    variables = template_variables(row.messages, row.tools)
    texts, spans = render_jinja_template(
        conversations=[variables["messages"]],
        tools=variables["tools"],
        chat_template=tokenizer.chat_template,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    said = [
        (turn, message)
        for turn, message in enumerate(row.messages, 1)
        if message.role == "assistant"
    ]
    for (turn, message), (start, end) in zip(said, spans[0], strict=True):
        yield Turn(number, turn, message, texts[0][start:end].removesuffix(tokenizer.eos_token))


def _compare(turn: Turn, parser: str, content: str, calls: Sequence[ToolCall]) -> None:
    """Calls must be equal as JSON; text but for blanks at its ends, which templates may drop."""
    expected = turn.message.tool_calls
    difference = None
    if len(calls) != len(expected):
        difference = f"{len(calls)} calls instead of {len(expected)}"
    for number, (got, wanted) in enumerate(zip(calls, expected, strict=False), 1):
        if difference is None and not same_calls([got], [wanted]):
            difference = f"call {number} is {_short(got)} instead of {_short(wanted)}"
    if difference is None and content.strip() != turn.message.content.strip():
        difference = f"the text is {_short(content)} instead of {_short(turn.message.content)}"
    if difference:
        raise ClosedLoopError(
            f"training row {turn.row}, turn {turn.turn}: {parser} reads {difference}. The turn is "
            f"rendered as {_short(turn.text)}. Trained like this, a served model would answer "
            "what no client can read: correct or remove the row"
        )


def _calls(turn: Turn, answer: dict[str, Any]) -> list[ToolCall]:
    try:
        return [
            ToolCall(name=call["name"], arguments=json.loads(call["arguments"]))
            for call in answer["calls"]
        ]
    except ValueError as error:
        raise ClosedLoopError(
            f"training row {turn.row}, turn {turn.turn}: vLLM makes arguments of it that are no "
            f"JSON object ({error}): {_short(answer['calls'])}"
        ) from error


def _short(value: ToolCall | str | list[Any]) -> str:
    text = value.model_dump_json() if isinstance(value, ToolCall) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _vllm_answers(
    tokenizer: PreTrainedTokenizerBase, template: Template, python: Path, turns: Sequence[Turn]
) -> Generator[Any, None, None]:
    """vLLM's version, then its answer to each turn, as they come."""
    parser = template.engines.vllm_tool_parser
    with tempfile.TemporaryDirectory(prefix="toolsmith-") as scratch:
        folder = Path(scratch)
        tokenizer.save_pretrained(folder / "tokenizer")
        texts = folder / "texts.jsonl"
        texts.write_text("".join(json.dumps(turn.text) + "\n" for turn in turns), encoding="utf-8")
        plugin = [str(PARSER_PLUGINS[parser])] if parser in PARSER_PLUGINS else []
        command = [str(python), str(WORKER), parser, str(folder / "tokenizer"), *plugin]
        with texts.open("rb") as given, (folder / "log").open("w+") as errors:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=os.environ | QUIET,
                    text=True,
                )
            except OSError as error:
                raise ClosedLoopError(f"{python} cannot be started: {error.strerror}") from error
            assert process.stdout is not None
            count = 0
            with process:
                try:
                    for line in process.stdout:
                        count += 1
                        yield json.loads(line)
                finally:
                    # Not all was read: the reader found a difference.
                    if count <= len(turns):
                        process.kill()
            if count != len(turns) + 1:
                errors.seek(0)
                tail = "\n".join(errors.read().strip().splitlines()[-5:])
                raise ClosedLoopError(f"vLLM's parser {parser} cannot be run by {python}:\n{tail}")
