"""One question to an OpenAI-compatible server, streamed or not, and its answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai

from serve.errors import ServeError
from serve.settings import LOOPBACK

CONNECT_SECONDS = 10
# A CPU may take long for the first token of a long prompt.
ANSWER_SECONDS = 600


@dataclass
class Call:
    """A function call; `arguments` is the text that the model wrote, JSON if it did well."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass
class Answer:
    """An answer: text, calls, or both. `model` is the name that the server gave itself."""

    text: str = ""
    calls: list[Call] = field(default_factory=list)
    finish_reason: str | None = None
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0

    def message(self) -> dict[str, Any]:
        """The assistant's turn, to be sent back with the next question."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.calls
            ]
        return message

    def to_json(self) -> dict[str, Any]:
        """For programs; arguments are parsed where they are JSON."""
        return {
            "model": self.model,
            "content": self.text or None,
            "tool_calls": [
                {"id": call.id, "name": call.name, "arguments": _parsed(call.arguments)}
                for call in self.calls
            ],
            "finish_reason": self.finish_reason,
            "usage": {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
            },
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Chat:
    """A server and how to ask it; `temperature` 0 is greedy, `max_tokens` None is its limit."""

    base_url: str
    model: str
    api_key: str | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    max_tokens: int | None = None
    temperature: float = 0.0

    def ask(
        self, messages: list[dict[str, Any]], on_text: Callable[[str], None] | None = None
    ) -> Answer:
        """Send a conversation; streamed, piece by piece to `on_text`, where that is given.

        Raises:
            ServeError: no server, a refusal, or an answer that was cut off.
        """
        started = time.monotonic()
        request: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": self.temperature,
        }
        if self.max_tokens is not None:
            request["max_tokens"] = self.max_tokens
        if self.tools:
            request["tools"] = self.tools
        try:
            with self._client() as client:
                answer = _stream(client, request, on_text) if on_text else _plain(client, request)
        except (openai.OpenAIError, httpx.HTTPError) as error:
            raise self._explain(error) from error
        answer.seconds = time.monotonic() - started
        return answer

    def _client(self) -> openai.OpenAI:
        # A proxy of the environment cannot reach this machine's loopback.
        trust_env = urlsplit(self.base_url).hostname not in LOOPBACK
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        return openai.OpenAI(
            base_url=self.base_url,
            api_key=self.api_key or "none",
            max_retries=0,
            http_client=httpx.Client(trust_env=trust_env, timeout=timeout),
        )

    def _explain(self, error: Exception) -> ServeError:
        if isinstance(error, openai.APITimeoutError | httpx.TimeoutException):
            return ServeError(f"{self.base_url} did not answer within {ANSWER_SECONDS} s")
        if isinstance(error, openai.APIConnectionError):
            reason = error.__cause__ or error
            return ServeError(
                f"no server at {self.base_url} ({reason}): start one with `serve up`, "
                "or give its --base-url"
            )
        if isinstance(error, openai.AuthenticationError):
            what = "refuses the API key" if self.api_key else "asks for an API key"
            return ServeError(f"{self.base_url} {what}: give --api-key, or set TOOLSMITH_API_KEY")
        if isinstance(error, openai.APIStatusError):
            said = error.body.get("message") if isinstance(error.body, dict) else None
            return ServeError(
                f"{self.base_url} refuses the request ({error.status_code}): {said or error}"
            )
        return ServeError(f"the answer from {self.base_url} was cut off: {error}")


def _plain(client: openai.OpenAI, request: dict[str, Any]) -> Answer:
    response = client.chat.completions.create(**request)
    if not response.choices:
        raise ServeError(f"{client.base_url} gave an answer without choices")
    choice = response.choices[0]
    answer = Answer(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason,
        model=response.model,
    )
    for call in choice.message.tool_calls or []:
        if call.type == "function":
            answer.calls.append(Call(call.id, call.function.name, call.function.arguments))
    if response.usage is not None:
        answer.prompt_tokens = response.usage.prompt_tokens
        answer.completion_tokens = response.usage.completion_tokens
    return answer


def _stream(
    client: openai.OpenAI, request: dict[str, Any], on_text: Callable[[str], None]
) -> Answer:
    answer = Answer()
    calls: dict[int, Call] = {}
    chunks = client.chat.completions.create(
        **request, stream=True, stream_options={"include_usage": True}
    )
    for chunk in chunks:
        answer.model = chunk.model or answer.model
        if chunk.usage is not None:
            answer.prompt_tokens = chunk.usage.prompt_tokens
            answer.completion_tokens = chunk.usage.completion_tokens
        for choice in chunk.choices:
            if choice.delta.content:
                answer.text += choice.delta.content
                on_text(choice.delta.content)
            for delta in choice.delta.tool_calls or []:
                call = calls.setdefault(delta.index, Call())
                call.id = delta.id or call.id
                if delta.function is not None:
                    call.name += delta.function.name or ""
                    call.arguments += delta.function.arguments or ""
            answer.finish_reason = choice.finish_reason or answer.finish_reason
    if answer.finish_reason is None:
        raise ServeError(f"the answer from {client.base_url} was cut off: the stream just ended")
    answer.calls = [calls[index] for index in sorted(calls)]
    return answer


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments
