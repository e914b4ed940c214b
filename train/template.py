"""The chat templates, and conversations as they render them.

The templates in train/templates are the only ones: they render here, in vLLM and in llama.cpp.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from release.manifest import Engines, ToolFormat
from train.messages import Conversation, Message, Tool
from train.toolcalls import PARSERS, CallParser

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Template:
    """A chat template and what the engines need to read the calls it writes."""

    name: str
    tool_format: ToolFormat
    engines: Engines
    stop_tokens: tuple[str, ...]

    @property
    def source(self) -> str:
        """The Jinja source, as it is trained on and as it is sealed into a release."""
        # What all templates write JSON with stands before each: a template can't include another.
        parts = [TEMPLATES / "json.jinja", TEMPLATES / f"{self.name}.jinja"]
        return "".join(part.read_text(encoding="utf-8") for part in parts)

    @property
    def parser(self) -> CallParser:
        """Reads the calls that the template writes, as vLLM does with `engines`' parser."""
        return PARSERS[self.tool_format]

    @property
    def sha256(self) -> str:
        """Hash of the source, as the manifest records it."""
        return hashlib.sha256(self.source.encode()).hexdigest()


KNOWN = {
    template.name: template
    for template in (
        Template("chatml-hermes", "hermes", Engines(vllm_tool_parser="hermes"), ("<|im_end|>",)),
        Template(
            "llama-nemotron",
            "llama-nemotron",
            Engines(vllm_tool_parser="toolsmith_nemotron"),
            ("<|eot_id|>",),
        ),
    )
}


def prompt(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    *,
    answer: bool = True,
) -> str:
    """The text that asks for the next assistant turn; without `answer`, the turns alone."""
    text: str = tokenizer.apply_chat_template(
        _messages(messages), tools=_tools(tools), add_generation_prompt=answer, tokenize=False
    )
    return text


class ControlTokens:
    """Finds the rows that no template can render: control tokens cannot be escaped in plain text.

    A turn's text that holds `<|im_end|>` would end the turn, and an assistant's text that holds the
    mark that begins calls would be read as a call. Within names, arguments and tool definitions a
    template writes every `<` as `\\u003c`, so there both are harmless.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        tokens = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
        marks = {p.begins for p in PARSERS.values() if p.begins in tokenizer.chat_template}
        self._in_text = _any_of(tokens)
        self._in_assistants_text = _any_of(tokens | marks)
        self._begun = tuple(mark[:length] for mark in marks for length in range(1, len(mark)))
        self._in_json = _any_of({token for token in tokens if "<" not in token})

    def first_in(self, conversation: Conversation) -> str | None:
        """The first one, or None: then the row can be rendered."""
        for message in conversation.messages:
            text = self._in_assistants_text if message.role == "assistant" else self._in_text
            found = text.search(message.content)
            if message.role == "assistant" and message.content.endswith(self._begun):
                # A server's stream holds back what may become a mark, and never sends it.
                return message.content[-1]
            for call in message.tool_calls:
                found = found or self._in_json.search(call.model_dump_json())
            if found:
                return found[0]
        for tool in conversation.tools:
            if found := self._in_json.search(tool.model_dump_json()):
                return found[0]
        return None


def _any_of(tokens: Collection[str]) -> re.Pattern[str]:
    # Longest first: of two tokens at one place the tokenizer takes the longer.
    ordered = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, ordered)) if ordered else r"(?!)")


def template_variables(messages: Sequence[Message], tools: Sequence[Tool]) -> dict[str, Any]:
    """What a template is rendered with: `messages` and `tools`, as engines hand them over."""
    return {"messages": _messages(messages), "tools": _tools(tools)}


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as engines hand them to a template: arguments parsed, not as a JSON string."""
    return [
        {
            "role": message.role,
            "content": message.content,
            "tool_calls": [
                {"type": "function", "function": call.model_dump()} for call in message.tool_calls
            ],
        }
        for message in messages
    ]


def _tools(tools: Sequence[Tool]) -> list[dict[str, Any]] | None:
    return [tool.openai() for tool in tools] or None
