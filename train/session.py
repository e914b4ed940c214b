"""A conversation with a model in this process: the tools offered and the turns so far."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from train.errors import TrainError
from train.generate import Request, load_for_inference, stream
from train.messages import Message, Tool
from train.toolcalls import parser_of


def read_tools(path: Path) -> tuple[Tool, ...]:
    """Read functions from JSON: OpenAI's `tools` list, or the bare functions.

    Raises:
        TrainError: no such file, not JSON, or an entry that is no function.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"tools file {path} cannot be read as JSON: {error}") from error
    if isinstance(entries, dict):
        entries = [entries]
    if not isinstance(entries, list):
        raise TrainError(f"tools file {path} must hold a list of functions")
    tools = []
    for number, entry in enumerate(entries, 1):
        function = entry.get("function", entry) if isinstance(entry, dict) else entry
        if isinstance(function, dict):
            # The template shows these three; OpenAI's `strict` and the like mean nothing to it.
            function = {key: function[key] for key in Tool.model_fields if key in function}
        try:
            tools.append(Tool.model_validate(function))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "entry"
            raise TrainError(
                f"tools file {path}, entry {number}: {where}: {first['msg']}"
            ) from None
    return tuple(tools)


class Session:
    """Holds the loaded model and the conversation."""

    def __init__(self, model: Path, cache: Path, tools: tuple[Tool, ...], max_tokens: int) -> None:
        self._model, self._tokenizer = load_for_inference(model, cache)
        self._tools = tools
        self._max_tokens = max_tokens
        self._messages: list[Message] = []

    def ask(self, content: str, show: Callable[[str], None]) -> Message:
        """Add a user's turn and the model's answer to it; `show` gets the answer as it comes."""
        return self._turn(Message(role="user", content=content), show)

    def converse(self, console: Console) -> None:
        """Read turns from the keyboard until the end of input.

        After a call, the next line is taken as the function's result.
        """
        console.print("[dim]One turn a line. After a call, type its result. Ctrl-D ends.[/dim]")
        waiting = 0
        while True:
            try:
                content = console.input(
                    "[bold]result>[/bold] " if waiting else "[bold]you>[/bold] "
                )
            except EOFError:
                return
            if not content.strip():
                continue
            if waiting > 1:
                self._messages.append(Message(role="tool", content=content))
                waiting -= 1
                continue
            answer = self._turn(
                Message(role="tool" if waiting else "user", content=content),
                lambda text: console.print(text, end="", markup=False, highlight=False),
            )
            console.print()
            waiting = len(answer.tool_calls)

    def _turn(self, message: Message, show: Callable[[str], None]) -> Message:
        self._messages.append(message)
        request = Request(tuple(self._messages), self._tools)
        text = stream(self._model, self._tokenizer, request, self._max_tokens, show)
        parsed = parser_of(self._tokenizer.chat_template).parse(text)
        answer = Message(role="assistant", content=parsed.content, tool_calls=parsed.calls)
        self._messages.append(answer)
        return answer
