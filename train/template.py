"""The chat templates, and conversations as they render them.

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
from train.messages import Message, Tool

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


def prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Sequence[Tool]
) -> str:
    """The text that asks for the next assistant turn."""
    text: str = tokenizer.apply_chat_template(
        _messages(messages), tools=_tools(tools), add_generation_prompt=True, tokenize=False
    )
    return text


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
