"""Conversations to prompts, tokens and the mask of what is trained.

The templates in train/templates are the only ones: they render here, in vLLM and in llama.cpp.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from release.manifest import Engines, ToolFormat
from train.messages import Conversation, Message, Tool

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
        return (TEMPLATES / f"{self.name}.jinja").read_text(encoding="utf-8")

    @property
    def sha256(self) -> str:
        """Hash of the source, as the manifest records it."""
        return hashlib.sha256(self.source.encode()).hexdigest()


KNOWN = {
    template.name: template
    for template in (
        Template("chatml-hermes", "hermes", Engines(vllm_tool_parser="hermes"), ("<|im_end|>",)),
    )
}


@dataclass(frozen=True)
class Encoded:
    """A row as tokens: `trained[i]` says whether `input_ids[i]` enters the loss. Equal lengths."""

    input_ids: list[int]
    trained: list[bool]


def encode(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> Encoded:
    """Tokens of a whole conversation; the assistant's turns, calls and end marks are trained."""
    encoded = tokenizer.apply_chat_template(
        _messages(conversation.messages),
        tools=_tools(conversation.tools),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    return Encoded(list(encoded["input_ids"]), [bool(mark) for mark in encoded["assistant_masks"]])


def prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[Tool]
) -> str:
    """The text that asks for the next assistant turn."""
    text: str = tokenizer.apply_chat_template(
        _messages(messages), tools=_tools(tools), add_generation_prompt=True, tokenize=False
    )
    return text


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
