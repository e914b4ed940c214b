"""Errors in OpenAI's shape, with nothing in them that names an engine's address or a stack trace.

The shape is that of https://platform.openai.com/docs/guides/error-codes: one `error` object with
message, type, param and code.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_PROVIDER_PREFIX = re.compile(r"^(?:(?:litellm\.)?[A-Z]\w*(?:Error|Exception)(?::| -)\s*)+")
_ROUTER_SUFFIX = re.compile(
    r"[\s.]*(?:Received Model Group=|Available Model Group Fallbacks=|LiteLLM Retried:).*$", re.S
)
_ADDRESS = re.compile(r"https?://[^\s'\"]+|\b(?:localhost|\d{1,3}(?:\.\d{1,3}){3}):\d{2,5}\b")
_UNKNOWN_MODEL = "Invalid model name passed in"
# Seconds; an engine that returns is noticed within one or two probes.
_RETRY_AFTER = 2


@dataclass(frozen=True)
class Reply:
    """An error to send: HTTP status, the body's fields and extra headers."""

    status: int
    message: str
    kind: str
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def error(self) -> dict[str, Any]:
        """The `error` object of the body."""
        return {"message": self.message, "type": self.kind, "param": None, "code": self.code}

    def body(self) -> bytes:
        """The JSON body."""
        return json.dumps({"error": self.error()}, ensure_ascii=False).encode()


BAD_KEY = Reply(
    401,
    "Incorrect or missing API key. Send it as 'Authorization: Bearer <key>'.",
    "invalid_request_error",
    "invalid_api_key",
    (("www-authenticate", "Bearer"),),
)
NO_ROUTE = Reply(
    404, "This gateway does not serve that path.", "invalid_request_error", "unknown_url"
)
UNKNOWN_MODEL = Reply(
    404,
    "The model does not exist. GET /v1/models lists the names.",
    "invalid_request_error",
    "model_not_found",
)
BODY_TOO_LARGE = Reply(413, "The request body is too large.", "invalid_request_error", "too_large")
INTERNAL = Reply(500, "The gateway failed. Its log says more.", "server_error", "internal")
NO_ENGINE = Reply(
    503,
    "No engine can answer now. Try again shortly.",
    "server_error",
    "engine_unavailable",
    (("retry-after", str(_RETRY_AFTER)),),
)
TIMED_OUT = Reply(504, "The engine took too long to answer.", "server_error", "timeout")
BROKEN_STREAM = Reply(
    502, "The engine stopped in the middle of its answer.", "server_error", "stream_broken"
)


def bad_body(message: str) -> Reply:
    """The reply to a body that no engine could read."""
    return Reply(400, message, "invalid_request_error", "invalid_body")


def wrong_method(allowed: str) -> Reply:
    """The reply to a known path with another method."""
    return Reply(
        405, f"Use {allowed}.", "invalid_request_error", "wrong_method", (("allow", allowed),)
    )


def from_upstream(status: int, body: bytes) -> Reply:
    """Turn LiteLLM's error answer into the one a client sees.

    Below 500 the cause is the request, so the engine's words are kept, cleaned. Everything else is
    ours: the words stay inside.
    """
    if status in (408, 504):
        return TIMED_OUT
    # 401 and 403: the client's key was right, so it is an engine that refused the gateway.
    if status >= 500 or status in (401, 403):
        return NO_ENGINE
    message = clean_message(_message_in(body))
    if _UNKNOWN_MODEL in message:
        return UNKNOWN_MODEL
    headers = (("retry-after", str(_RETRY_AFTER)),) if status == 429 else ()
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    return Reply(status, message or "The request was refused.", kind, None, headers)


def clean_message(message: str) -> str:
    """Strip LiteLLM's wrapping and every address from an error message."""
    text = _ROUTER_SUFFIX.sub("", _PROVIDER_PREFIX.sub("", message.strip()))
    if text.startswith("{"):
        text = _message_in(text.encode()) or text
    text = text.partition("Traceback (most recent call last)")[0]
    return _ADDRESS.sub("the engine", text).strip()


def _message_in(body: bytes) -> str:
    """The message of an error body: OpenAI's, vLLM's, FastAPI's, or the plain text itself."""
    try:
        raw = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    if not isinstance(raw, dict):
        return str(raw)
    inner = raw.get("error", raw)
    if isinstance(inner, dict):
        inner = inner.get("message", inner.get("detail", inner))
    return inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)
