"""Reads a client's request body and takes out what only the gateway may set."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway.replies import BODY_TOO_LARGE, Reply, bad_body

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

# Bytes; a conversation that fills a context of 128 k tokens is well below 1 MiB.
BODY_LIMIT = 16 * 1024 * 1024
# LiteLLM's own fields that it would take from a request's body. With them a client could change
# the route, or make an engine look broken by a time-out of its own choice.
_INTERNAL_FIELDS = frozenset(
    (
        "_excluded_deployment_ids",
        "_target_order",
        "api_base",
        "api_key",
        "api_version",
        "attempted_targets",
        "base_url",
        "content_policy_fallbacks",
        "context_window_fallbacks",
        "custom_llm_provider",
        "disable_fallbacks",
        "extra_body",
        "extra_headers",
        "fallback_depth",
        "fallbacks",
        "litellm_metadata",
        "max_fallbacks",
        "max_retries",
        "mock_response",
        "mock_testing_content_policy_fallbacks",
        "mock_testing_context_fallbacks",
        "mock_testing_fallbacks",
        "mock_tool_calls",
        "num_retries",
        "request_timeout",
        "stream_timeout",
        "timeout",
        "user_config",
    )
)


class ClientGone(Exception):
    """The client hung up before its request was whole."""


async def read_body(receive: Receive) -> bytes | Reply:
    """Read a whole request body of at most `BODY_LIMIT` bytes.

    Raises:
        ClientGone: the connection ended first.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_LIMIT:
            return BODY_TOO_LARGE
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def clean_body(raw: bytes) -> bytes | Reply:
    """The body to pass on: `raw` itself, unless it holds a field that no client may set."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return bad_body(f"The body is not valid JSON: {error}.")
    if not isinstance(body, dict):
        return bad_body("The body must be a JSON object.")
    metadata = body.get("metadata")
    forged = isinstance(metadata, dict) and metadata.pop("previous_models", None) is not None
    internal = _INTERNAL_FIELDS & body.keys()
    if not (forged or internal):
        return raw
    return json.dumps({k: v for k, v in body.items() if k not in internal}).encode()
