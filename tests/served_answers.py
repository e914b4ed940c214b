"""Asks a server for the answers that the tiny release knows, through the OpenAI SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import openai

from serve.chat import Chat
from tests.release_fixture import ONE_CALL, Answer


def client(url: str, key: str = "none") -> openai.OpenAI:
    http = httpx.Client(trust_env=False, timeout=120)
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=http)


def check_answer(url: str, expected: Answer, stream: bool, key: str | None = None) -> None:
    """The greedy answer is the one learnt, and ends where it should."""
    chat = Chat(f"{url}/v1", "toolsmith", key, tools=list(expected.tools), max_tokens=200)
    pieces: list[str] = []
    messages: list[dict[str, Any]] = [{"role": "user", "content": expected.user}]
    answer = chat.ask(messages, pieces.append if stream else None)
    calls = tuple((call.name, json.loads(call.arguments)) for call in answer.calls)
    assert calls == expected.calls
    # The line break between text and calls is part of the text for vLLM, and not for llama.cpp.
    assert answer.text.rstrip("\n") == expected.text
    assert "".join(pieces).rstrip("\n") == (expected.text if stream else "")
    assert answer.finish_reason == ("tool_calls" if expected.calls else "stop")
    assert answer.completion_tokens is not None
    assert answer.completion_tokens < 200


def tokens_of_long_answer(url: str, tokens: int, on_begin: Callable[[str], None]) -> int:
    """Stream an answer of exactly `tokens` tokens; the number that the server says it made."""
    stream = client(url).chat.completions.create(
        model="toolsmith",
        messages=[{"role": "user", "content": "Say hello"}],
        max_tokens=tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    made = 0
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            on_begin("begun")
        if chunk.usage is not None:
            made = chunk.usage.completion_tokens
    return made


def check_tool_choice(url: str, named: bool = True) -> None:
    """`none` calls nothing; `required` and a named function call, streamed and not."""
    weather = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("none", "required", *([weather] if named else [])):
        for stream in (False, True):
            message = asked(url, ONE_CALL, choice, stream)
            names = [call["name"] for call in message["calls"]]
            if choice == "none":
                assert names == [], (choice, stream)
            else:
                assert names == ["get_weather"], (choice, stream)
                assert set(json.loads(message["calls"][0]["arguments"])) == {"city"}


def asked(url: str, question: Answer, choice: Any, stream: bool) -> dict[str, Any]:
    """Text and calls of one answer, streamed or not."""
    request: dict[str, Any] = {
        "model": "toolsmith",
        "messages": [{"role": "user", "content": question.user}],
        "tools": list(question.tools),
        "tool_choice": choice,
        "temperature": 0,
        "max_tokens": 200,
    }
    if not stream:
        message = client(url).chat.completions.create(**request).choices[0].message
        calls = [
            {"name": call.function.name, "arguments": call.function.arguments}
            for call in message.tool_calls or []
        ]
        return {"text": message.content or "", "calls": calls}
    text, calls = "", []
    for chunk in client(url).chat.completions.create(**request, stream=True):
        for choice_delta in chunk.choices:
            text += choice_delta.delta.content or ""
            for call in choice_delta.delta.tool_calls or []:
                if call.index == len(calls):
                    calls.append({"name": "", "arguments": ""})
                calls[call.index]["name"] += call.function.name or ""
                calls[call.index]["arguments"] += call.function.arguments or ""
    return {"text": text, "calls": calls}
