"""Reads texts with vLLM's own tool-call parser. This file runs in vLLM's environment, by its path.

python train/vllm_parse.py PARSER TOKENIZER_FOLDER [PLUGIN] < texts > answers

A line in is a JSON string, a line out `{"whole": …, "streamed": …}` with content and calls of each:
all at once, and in pieces as a stream brings them. The first line out is vLLM's version.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

PIECE = 7  # characters; streams cut marks, names and escapes anywhere


def main() -> None:
    """Answer until the input ends."""
    parser, folder, *plugin = sys.argv[1:]
    # Only answers may go to standard output; libraries write there too.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import vllm
    from transformers import AutoTokenizer
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.tool_parsers.abstract_tool_parser import ToolParserManager

    for path in plugin:
        ToolParserManager.import_tool_parser(path)
    made = ToolParserManager.get_tool_parser(parser)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    request = ChatCompletionRequest(messages=[])
    out.write(json.dumps(vllm.__version__) + "\n")
    for line in sys.stdin:
        text = json.loads(line)
        answers = {
            "whole": _whole(made(tokenizer), text, request),
            "streamed": _streamed(made(tokenizer), text, request),
        }
        out.write(json.dumps(answers) + "\n")
    out.flush()


def _whole(parser: Any, text: str, request: Any) -> dict[str, Any]:
    found = parser.extract_tool_calls(text, request)
    calls = [
        {"name": call.function.name, "arguments": call.function.arguments}
        for call in found.tool_calls
    ]
    return {"content": found.content or "", "calls": calls}


def _streamed(parser: Any, text: str, request: Any) -> dict[str, Any]:
    content = ""
    calls: list[dict[str, str]] = []
    for before, now in _growing(text):
        delta = parser.extract_tool_calls_streaming(
            before, now, now[len(before) :], [], [], [], request
        )
        if delta is None:
            continue
        content += delta.content or ""
        for piece in delta.tool_calls:
            if piece.index == len(calls):
                calls.append({"name": "", "arguments": ""})
            function = piece.function
            if function is not None:
                calls[piece.index]["name"] += function.name or ""
                calls[piece.index]["arguments"] += function.arguments or ""
    return {"content": content, "calls": calls}


def _growing(text: str) -> Iterator[tuple[str, str]]:
    for end in range(PIECE, len(text) + PIECE, PIECE):
        yield text[: end - PIECE], text[:end]


if __name__ == "__main__":
    main()
