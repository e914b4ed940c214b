"""`infer-vllm`: ask any OpenAI-compatible server, once or in a conversation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from serve import options
from serve.chat import Answer, Chat
from serve.engine import url_of
from serve.errors import ServeError
from serve.keys import read_key
from serve.settings import LOOPBACK, Settings, load_settings
from serve.tools_file import load_tools

_app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
_console = Console(highlight=False, soft_wrap=True)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)


@_app.command(epilog='Example: infer-vllm "What is the weather in Paris?" --tools tools.json')
def infer(
    prompt: Annotated[
        str | None, typer.Argument(help="The question. Without one, a conversation begins.")
    ] = None,
    tools: Annotated[
        Path | None,
        typer.Option(help="JSON list of functions, in OpenAI's format or bare.", metavar="FILE"),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            envvar="TOOLSMITH_BASE_URL",
            help="OpenAI-compatible server.",
            show_default="the gateway of `serve up`, http://127.0.0.1:4000/v1",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to ask for.", show_default="toolsmith")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help="API key.", show_default="TOOLSMITH_API_KEY, else the key of `serve up`"),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="Show the answer as it comes.")
    ] = True,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens to generate.", show_default="no limit")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    cache: options.Cache = None,
) -> None:
    """Ask an OpenAI-compatible server and print its text and tool calls.

    Exit codes: 0 answered, 1 failed, 2 wrong use, 130 interrupted.
    """
    with _reporting():
        settings = load_settings({"cache": cache})
        chat = Chat(
            base_url=base_url or f"{url_of(settings.host, settings.gateway_port)}/v1",
            model=model or settings.model_name,
            api_key=api_key or _default_key(settings, base_url),
            tools=load_tools(tools) if tools else [],
            max_tokens=max_tokens,
            temperature=temperature,
        )
        if prompt is None:
            _converse(chat, stream, as_json)
        else:
            _show(chat, [{"role": "user", "content": prompt}], stream, as_json)


def main() -> None:
    """The command `infer-vllm`."""
    _app(prog_name="infer-vllm")


def _show(chat: Chat, messages: list[dict[str, Any]], stream: bool, as_json: bool) -> Answer:
    """Ask, and print the answer."""
    if as_json:
        answer = chat.ask(messages, _ignore if stream else None)
        sys.stdout.write(json.dumps(answer.to_json(), ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return answer
    on_text: Callable[[str], None] | None = _write if stream else None
    answer = chat.ask(messages, on_text)
    if answer.text:
        _write(("" if stream else answer.text) + "\n")
    for call in answer.calls:
        _console.print(f"[bold cyan]{escape(call.name)}[/]({escape(call.arguments)})")
    if not answer.text and not answer.calls:
        _errors.print("[dim](an empty answer)[/]")
    if answer.finish_reason == "length":
        _errors.print("[yellow]cut at the token limit[/]: raise --max-tokens")
    return answer


def _converse(chat: Chat, stream: bool, as_json: bool) -> None:
    """Ask and answer until the input ends; results of tool calls are asked for."""
    terminal = sys.stdin.isatty()
    if terminal:
        _errors.print(f"[dim]{escape(chat.model)} at {escape(chat.base_url)}; Ctrl-D ends[/]")
    messages: list[dict[str, Any]] = []
    while (line := _read("> " if terminal else "")) is not None:
        if not line.strip():
            continue
        before = len(messages)
        messages.append({"role": "user", "content": line})
        try:
            _turn(chat, messages, stream, as_json, terminal)
        except ServeError as error:
            if not terminal:
                raise
            # The question can be put again.
            del messages[before:]
            _errors.print(f"[red]error:[/red] {escape(str(error))}")


def _turn(
    chat: Chat, messages: list[dict[str, Any]], stream: bool, as_json: bool, terminal: bool
) -> None:
    """One answer, and as many more as there are results of tool calls to answer to."""
    while True:
        answer = _show(chat, messages, stream, as_json)
        messages.append(answer.message())
        if not answer.calls:
            return
        for call in answer.calls:
            result = _read(f"result of {call.name}: " if terminal else "")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result or ""})
            if result is None:
                return


def _read(prompt: str) -> str | None:
    try:
        return input(prompt)
    except EOFError:
        return None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _ignore(_text: str) -> None:
    """Streamed, but printed when whole."""


def _default_key(settings: Settings, base_url: str | None) -> str | None:
    """The given key; the stack's own only for this machine, for no other server must see it."""
    if settings.api_key is not None or base_url is None or urlsplit(base_url).hostname in LOOPBACK:
        return read_key(settings)
    return None


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except ServeError as error:
        _errors.print(f"[red]error:[/red] {escape(str(error))}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


if __name__ == "__main__":
    main()
