"""Asks a server for the answers that the tiny release knows, through the OpenAI SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
from transformers import AutoTokenizer

from release.parity.prompts import Prompt, fixed_set
from release.store import ReleaseStore
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


def check_prompt_tokens(url: str, store: Path, engine: str) -> None:
    """The fixed set has the token ids of training, with one BOS where the model has one."""
    releases = ReleaseStore(store)
    merged = releases.path(releases.channel().release) / "merged"
    tokenizer = AutoTokenizer.from_pretrained(merged)
    differing = []
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        for prompt in fixed_set():
            for ask in (True, False):
                trained = tokenizer.apply_chat_template(
                    prompt.for_template(), tools=prompt.tools or None, add_generation_prompt=ask
                )["input_ids"]
                assert tokenizer.bos_token_id is None or trained.count(tokenizer.bos_token_id) == 1
                if TOKENS_OF[engine](http, prompt, ask) != trained:
                    differing.append((prompt.name, ask))
    assert not differing


def _body(prompt: Prompt, ask: bool) -> dict[str, Any]:
    tools = {"tools": prompt.tools} if prompt.tools else {}
    return {"messages": prompt.messages, "add_generation_prompt": ask, **tools}


def vllm_tokens(http: httpx.Client, prompt: Prompt, ask: bool) -> Any:
    body = {"model": "toolsmith", **_body(prompt, ask)}
    return http.post("/tokenize", json=body).raise_for_status().json()["tokens"]


def llamacpp_tokens(http: httpx.Client, prompt: Prompt, ask: bool) -> Any:
    rendered = http.post("/apply-template", json=_body(prompt, ask)).raise_for_status()
    # As its chat route does: llama.cpp adds BOS where the GGUF says so.
    text = {"content": rendered.json()["prompt"], "add_special": True, "parse_special": True}
    return http.post("/tokenize", json=text).raise_for_status().json()["tokens"]


TOKENS_OF = {"vllm": vllm_tokens, "llamacpp": llamacpp_tokens}


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
