"""A vLLM plugin that reads `<TOOLCALL>[{"name": …, "arguments": {…}}, …]</TOOLCALL>`.

vLLM has no parser for this form. `serve vllm` loads this file with --tool-parser-plugin when a
release names the parser `toolsmith_nemotron`; it runs in vLLM's own environment and imports nothing
of Toolsmith.

An answer is text, then calls. Calls that cannot be read are text: whole, when the answer is not
streamed; in a stream, when nothing of them has been sent yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    ExtractedToolCallInformation,
    FunctionCall,
    ToolCall,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.renderers.chat_utils import make_tool_call_id
from vllm.tool_parsers.abstract_tool_parser import ToolParser, ToolParserManager
from vllm.tool_parsers.structural_tag_registry import (
    get_function_parameters,
    register_vllm_structural_tag,
)
from vllm.tool_parsers.utils import partial_tag_overlap
from xgrammar import StructuralTag
from xgrammar.structural_tag import (
    JSONSchemaFormat,
    TagFormat,
    TagsWithSeparatorFormat,
    TriggeredTagsFormat,
)

NAME = "toolsmith_nemotron"
BEGIN = "<TOOLCALL>"
END = "</TOOLCALL>"
_BLANK = re.compile(r"[ \t\r\n]*")
# What ends a number, true, false or null.
_SCALAR_END = re.compile(r"[,\]}\s]")


class Unreadable(ValueError):
    """Text that is no call."""


class Incomplete(Exception):
    """The text ends before the next piece."""


def structural_tag(
    tools: list[Any], builtin_tools: list[Any], tool_choice: str, reasoning: bool, suffix: str = ""
) -> StructuralTag:
    """The grammar for tool_choice `required`, for a named function and for strict tools."""
    calls = TagsWithSeparatorFormat(
        tags=[
            TagFormat(
                begin=f'{{"name": {json.dumps(tool.function.name)}, "arguments": ',
                content=JSONSchemaFormat(json_schema=get_function_parameters(tool.function)),
                end="}",
            )
            for tool in tools
        ],
        separator=", ",
        at_least_one=True,
        stop_after_first=tool_choice == "forced",
    )
    answer = TagFormat(begin=f"{BEGIN}[", content=calls, end=f"]{END}")
    if tool_choice == "auto":
        return StructuralTag(format=TriggeredTagsFormat(triggers=[BEGIN], tags=[answer]))
    return StructuralTag(format=answer)


class NemotronToolParser(ToolParser):
    """Reads Llama-Nemotron's tool calls, whole and streamed."""

    # Calls that a request demands are then made in this form too, not in vLLM's own JSON.
    structural_tag_model = NAME

    def __init__(self, tokenizer: Any, tools: list[Any] | None = None) -> None:
        super().__init__(tokenizer, tools)
        self._sent_content = 0
        self._broken = False

    def adjust_request(self, request: Any) -> Any:
        """Keep special tokens: a model may have the marks among them."""
        request = super().adjust_request(request)
        if request.tools and request.tool_choice != "none":
            request.skip_special_tokens = False
        return request

    def extract_tool_calls(
        self, model_output: str, request: ChatCompletionRequest
    ) -> ExtractedToolCallInformation:
        """Split a whole answer into text and calls."""
        try:
            content, calls = split(model_output)
        except Unreadable:
            content, calls = model_output, []
        return ExtractedToolCallInformation(
            tools_called=bool(calls),
            tool_calls=[
                ToolCall(type="function", function=FunctionCall(name=name, arguments=arguments))
                for name, arguments in calls
            ],
            content=content or None,
        )

    def extract_tool_calls_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
        request: ChatCompletionRequest,
    ) -> DeltaMessage | None:
        """What is new since the last call: text, names, pieces of arguments."""
        start = current_text.find(BEGIN)
        if start < 0:
            start = len(current_text) - partial_tag_overlap(current_text, BEGIN)
        calls = self._new_calls(current_text)
        if self._broken and not self.prev_tool_call_arr:
            start = len(current_text)
        content = current_text[self._sent_content : start]
        self._sent_content = max(self._sent_content, start)
        if content or calls:
            return DeltaMessage(content=content or None, tool_calls=calls)
        return None

    def _new_calls(self, text: str) -> list[DeltaToolCall]:
        """Compare all calls begun in the text with what was sent of them."""
        deltas: list[DeltaToolCall] = []
        if self._broken:
            return deltas
        try:
            for index, (name, arguments) in enumerate(begun_calls(text)):
                if index == len(self.prev_tool_call_arr):
                    self.prev_tool_call_arr.append({"name": name, "arguments": ""})
                    self.streamed_args_for_tool.append("")
                    deltas.append(
                        DeltaToolCall(
                            index=index,
                            type="function",
                            id=make_tool_call_id(),
                            function=_function(name=name),
                        )
                    )
                new = arguments[len(self.streamed_args_for_tool[index]) :]
                if new:
                    self.streamed_args_for_tool[index] = arguments
                    self.prev_tool_call_arr[index]["arguments"] = arguments
                    deltas.append(DeltaToolCall(index=index, function=_function(arguments=new)))
        except Unreadable:
            self._broken = True
        return deltas


def _function(**fields: str) -> dict[str, Any]:
    # Without the fields that are not set: a client would append their null.
    function: dict[str, Any] = DeltaFunctionCall(**fields).model_dump(exclude_none=True)
    return function


def split(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The text before the calls; each call's name and its arguments as JSON text.

    Raises:
        Unreadable: something between the marks is not a list of calls.
    """
    content, begin, _ = text.partition(BEGIN)
    if not begin:
        return text, []
    try:
        calls = [json.loads(body) for body in _bodies(text)]
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error
    found = []
    for body in calls:
        if not isinstance(body, list):
            raise Unreadable("not a list")
        for call in body:
            if not isinstance(call, dict) or not isinstance(call.get("name"), str):
                raise Unreadable("a call has no name")
            if not isinstance(call.get("arguments"), dict):
                raise Unreadable("arguments are not an object")
            found.append((call["name"], json.dumps(call["arguments"], ensure_ascii=False)))
    return content, found


def _bodies(text: str) -> Iterator[str]:
    """What stands between each pair of marks; the last end mark may be missing.

    An end mark within a JSON string is no end mark.
    """
    at = 0
    while (begin := text.find(BEGIN, at)) >= 0:
        at = begin + len(BEGIN)
        try:
            end = _value_end(text, _BLANK.match(text, at).end())  # type: ignore[union-attr]
        except Incomplete:
            yield text[at:]
            return
        mark = text.find(END, end)
        at_end = len(text) if mark < 0 else mark
        yield text[at:at_end]
        at = at_end


def begun_calls(text: str) -> Iterator[tuple[str, str]]:
    """Name and the arguments so far of every call whose name is known, in an unfinished text.

    Raises:
        Unreadable: the text can no longer become a list of calls.
    """
    at = 0
    while (begin := text.find(BEGIN, at)) >= 0:
        try:
            at = yield from _list(text, begin + len(BEGIN))
        except Incomplete:
            return


def _list(text: str, at: int) -> Generator[tuple[str, str], None, int]:
    """The calls of one list; returns where it ends."""
    at = _expect(text, at, "[")
    while _peek(text, at) != "]":
        at = yield from _call(text, _expect(text, at, "{"))
        if _peek(text, at) == ",":
            at = _expect(text, at, ",")
    return _expect(text, at, "]")


def _call(text: str, at: int) -> Generator[tuple[str, str], None, int]:
    """One call; it is yielded once, with what is known when the text or the call ends."""
    name = arguments = None
    try:
        while _peek(text, at) != "}":
            start = _skip_blank(text, at)
            at = _value_end(text, start)
            key = _load(text[start:at])
            start = _skip_blank(text, _expect(text, at, ":"))
            if key == "arguments":
                if _peek(text, start) != "{":
                    raise Unreadable("arguments are not an object")
                # So far, in case that the text ends within them.
                arguments = text[start:]
            at = _value_end(text, start)
            if key == "arguments":
                arguments = text[start:at]
            elif key == "name":
                name = _load(text[start:at])
                if not isinstance(name, str):
                    raise Unreadable("a name is not a string")
            if _peek(text, at) == ",":
                at = _expect(text, at, ",")
    except Incomplete:
        if name is not None:
            yield name, arguments or ""
        raise
    if name is None or arguments is None:
        raise Unreadable("a call has no name or no arguments")
    yield name, arguments
    return _expect(text, at, "}")


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error


def _skip_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _peek(text: str, at: int) -> str:
    at = _skip_blank(text, at)
    if at == len(text):
        raise Incomplete
    return text[at]


def _expect(text: str, at: int, character: str) -> int:
    """Where the text goes on after the character."""
    if _peek(text, at) != character:
        raise Unreadable(f"no {character} at {at}")
    return _skip_blank(text, at) + 1


_STRUCTURE = re.compile(r'["{}\[\]]')
_STRING_END = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def _value_end(text: str, at: int) -> int:
    """Where the JSON value that begins at `at` ends; its inside is not checked."""
    if at == len(text):
        raise Incomplete
    if text[at] not in '"{[':
        end = _SCALAR_END.search(text, at)
        if not end:
            raise Incomplete
        return end.start()
    depth = 0
    while True:
        found = _STRUCTURE.search(text, at)
        if not found:
            raise Incomplete
        at = found.end()
        if found[0] == '"':
            string = _STRING_END.match(text, at)
            if not string:
                raise Incomplete
            at = string.end()
        else:
            depth += 1 if found[0] in "{[" else -1
        if depth <= 0:
            return at


register_vllm_structural_tag(NAME)(structural_tag)
ToolParserManager.register_module(NAME, module=NemotronToolParser)
