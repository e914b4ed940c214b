"""The main job from end to end: fine-tune, release, serve, call through the gateway, stop.

    make demo          with vLLM
    make demo VLLM=0   without it

Read from top to bottom, this is what Toolsmith does. Every step is one of its own commands.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serve.errors import ServeError
from serve.keys import read_key
from serve.native import PARTS, status
from serve.process import check_port
from serve.settings import Settings, load_settings

BIN = Path(sys.executable).parent
CHANNEL = "demo"
QUESTION = "How clean is the air in Chicago?"
EXPECTED = ("get_air_quality", {"city": "Chicago"})
RESULT = {"aqi": 42}
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "get_air_quality",
            "description": "Get the air quality index of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
# What a model wrote may hold brackets, which are no markup.
console = Console(highlight=False, markup=False)


class DemoError(Exception):
    """A step did not give what it should."""


@dataclass
class Summary:
    """What the demo found, for the table at its end."""

    seconds: dict[str, float] = field(default_factory=dict)
    rows: list[tuple[str, str]] = field(default_factory=list)

    def step(self, name: str, action: Callable[[], Any]) -> Any:
        """Run one step under a heading and keep its time."""
        console.rule(name, align="left")
        started = time.monotonic()
        result = action()
        self.seconds[name] = time.monotonic() - started
        return result

    def show(self) -> None:
        """Print everything as one table."""
        table = Table(title="Toolsmith demo", show_header=False, title_justify="left")
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        for name, taken in self.seconds.items():
            table.add_row(f"time: {name}", f"{taken:.0f} s")
        table.add_row("time: all", f"{sum(self.seconds.values()):.0f} s")
        console.print(table)


def main(with_vllm: bool) -> int:
    """Run the demo; returns the exit code."""
    summary = Summary()
    try:
        settings = load_settings({"channel": CHANNEL})
        check_free(settings, with_vllm)
        trained = train(summary, settings)
        try:
            serve(summary, settings, trained["release"], with_vllm)
        finally:
            command("serve", "down")
    except KeyboardInterrupt:
        console.print("stopped by Ctrl-C")
        return 130
    except (DemoError, ServeError, openai.OpenAIError) as error:
        console.print(f"The demo failed: {error}", style="red")
        return 1
    summary.show()
    return 0


def check_free(settings: Settings, with_vllm: bool) -> None:
    """Find out before the work whether the stack can be started after it."""
    running = [name for name, state in status(settings).items() if state is not None]
    if running:
        raise DemoError(f"{', '.join(running)} is running already: `make down` first")
    for part in PARTS:
        if with_vllm or part != "vllm":
            port = getattr(settings, f"{part}_port")
            check_port(settings.host, port, f"TOOLSMITH_{part.upper()}_PORT")


def train(summary: Summary, settings: Settings) -> dict[str, Any]:
    """Fine-tune and seal a release, or keep the one that was made from the same inputs."""
    arguments = ["--output", str(settings.store), "--cache", str(settings.cache)]

    def finetune() -> dict[str, Any]:
        done = command("finetune", "--reuse", "--json", *arguments, capture=True)
        result: dict[str, Any] = json.loads(done)
        return result

    trained: dict[str, Any] = summary.step("train", finetune)
    scores = [f"{s['set']} {s['base']:.2f} → {s['tuned']:.2f}" for s in trained["scores"]]
    reused = " (reused: made from the same inputs)" if trained["reused"] else ""
    summary.rows.append(("release", f"{trained['release']}{reused}"))
    summary.rows.append(("tool-call accuracy, base → tuned", ", ".join(scores)))
    if trained["tokens_per_second"]:
        summary.rows.append(("training", f"{trained['tokens_per_second']:.0f} tokens/s"))
    for stage, taken in trained["seconds"].items():
        summary.rows.append((f"  {stage}", f"{taken:.0f} s"))
    return trained


def serve(summary: Summary, settings: Settings, release: str, with_vllm: bool) -> None:
    """Serve the release and call it; a channel of its own leaves what is promoted alone."""

    def up() -> None:
        command("release", "promote", release, "--channel", CHANNEL, "--store", str(settings.store))
        command("serve", "up", "--vllm" if with_vllm else "--no-vllm", "--channel", CHANNEL)

    summary.step("serve", up)
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{settings.gateway_port}/v1",
        api_key=read_key(settings),
        # A proxy from the environment is not for this machine.
        http_client=httpx.Client(trust_env=False, timeout=600),
    )
    summary.rows += summary.step("ask", lambda: ask(client, settings.model_name))
    if with_vllm:
        names = [f"{settings.model_name}@gpu", f"{settings.model_name}@cpu"]
        calls = [tool_call(client, name)[0] for name in names]
        if calls[0] != calls[1]:
            raise DemoError(f"vLLM called {calls[0]}, llama.cpp {calls[1]}")
        summary.rows.append(("vLLM and llama.cpp", "made the same call"))


def ask(client: openai.OpenAI, model: str) -> list[tuple[str, str]]:
    """One plain answer, one streamed, one tool call with its result sent back."""
    hello: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "What is the capital of Japan?"}
    ]
    raw = client.chat.completions.with_raw_response.create(model=model, messages=hello)
    plain = raw.parse()
    engine = raw.headers.get("x-toolsmith-engine", "?")
    console.print(f"plain: {plain.choices[0].message.content}")

    started = time.monotonic()
    pieces = []
    for chunk in client.chat.completions.create(model=model, messages=hello, stream=True):
        if chunk.choices and chunk.choices[0].delta.content:
            pieces.append(chunk.choices[0].delta.content)
    rate = len(pieces) / (time.monotonic() - started)
    console.print(f"streamed: {''.join(pieces)}")
    if not pieces:
        raise DemoError("the streamed answer was empty")

    call, messages = tool_call(client, model)
    console.print(f"tool call: {call[0]}({json.dumps(call[1], ensure_ascii=False)})")
    if call != EXPECTED:
        raise DemoError(f"expected the call {EXPECTED}, got {call}")
    messages.append({"role": "tool", "tool_call_id": "call_0", "content": json.dumps(RESULT)})
    final = client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
    console.print(f"after its result: {final.choices[0].message.content}")
    return [
        ("answered by", f"{engine}, release {raw.headers.get('x-toolsmith-release', '?')}"),
        ("tool call", f"{call[0]}({json.dumps(call[1], ensure_ascii=False)})"),
        ("answer to its result", final.choices[0].message.content or ""),
        ("streamed", f"{rate:.0f} tokens/s, prompt included"),
    ]


def tool_call(
    client: openai.OpenAI, model: str
) -> tuple[tuple[str, dict[str, Any]], list[ChatCompletionMessageParam]]:
    """The call that the model makes, and the conversation up to it."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
    answer = client.chat.completions.create(
        model=model, messages=messages, tools=TOOLS, temperature=0
    )
    calls = answer.choices[0].message.tool_calls
    if not calls or calls[0].type != "function":
        raise DemoError(f"{model} called no function: {answer.choices[0].message.content!r}")
    function = calls[0].function
    messages.append(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_0",
                    "type": "function",
                    "function": {"name": function.name, "arguments": function.arguments},
                }
            ],
        }
    )
    return (function.name, json.loads(function.arguments)), messages


def command(name: str, *arguments: str, capture: bool = False) -> str:
    """Run one of Toolsmith's commands; its output shows here unless captured."""
    shown = f"{name} {' '.join(arguments)}"
    console.print(f"$ {shown}", style="dim")
    # Ctrl-C reaches the command too: wait until it has cleaned up after itself.
    with subprocess.Popen(
        [str(BIN / name), *arguments], stdout=subprocess.PIPE if capture else None, text=True
    ) as process:
        try:
            output, _ = process.communicate()
        except KeyboardInterrupt:
            process.wait()
            raise
    if process.returncode == 130:
        raise KeyboardInterrupt
    if process.returncode != 0:
        raise DemoError(f"`{shown}` exited with {process.returncode}")
    return output or ""


if __name__ == "__main__":
    sys.exit(main("--no-vllm" not in sys.argv[1:]))
