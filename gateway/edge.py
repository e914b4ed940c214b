"""The ASGI layer before LiteLLM: keys, routes, and what leaves the gateway.

LiteLLM serves some hundred routes, tells clients its engines' addresses and answers a wrong key
with 400 when it has no database. This layer lets only the model API through, checks the key,
rewrites errors into OpenAI's shape and says which engine and release answered.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from gateway.config import EngineName, engine_of
from gateway.health import Prober
from gateway.intake import ClientGone, Message, Receive, clean_body, read_body
from gateway.replies import (
    BAD_KEY,
    BROKEN_STREAM,
    INTERNAL,
    NO_ROUTE,
    TIMED_OUT,
    Reply,
    from_upstream,
    wrong_method,
)

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# The model API, with and without /v1 as LiteLLM has it. /v1/models/<name> is allowed too.
_ROUTES = {
    f"{prefix}/{path}": method
    for prefix in ("/v1", "")
    for path, method in (("chat/completions", "POST"), ("completions", "POST"), ("models", "GET"))
}
_MODEL_PREFIXES = ("/v1/models/", "/models/")
_READY, _LIVE = "/health/readiness", "/health/liveliness"

ENGINE_HEADER, RELEASE_HEADER = "x-toolsmith-engine", "x-toolsmith-release"
# LiteLLM's own; the first names the deployment, most of the others tell too much.
_DEPLOYMENT_HEADER = b"x-litellm-model-id"
_REQUEST_ID_HEADER = b"x-litellm-call-id"
_INTERNAL_PREFIXES = (b"x-litellm-", b"llm_provider-", b"server", b"x-toolsmith-")
_CONSUMED_HEADERS = (
    b"authorization",
    b"x-api-key",
    b"api-key",
    b"content-length",
    b"transfer-encoding",
)
_ERROR_EVENT = b'data: {"error"'


class Edge:
    """Wraps LiteLLM's ASGI app.

    `client_key` None lets every client in (loopback only); `internal_key` is what LiteLLM itself
    is told, so a client's key never reaches it.
    """

    def __init__(
        self,
        app: App,
        prober: Prober,
        *,
        release_id: str,
        client_key: str | None,
        internal_key: str,
    ) -> None:
        self._app = app
        self._prober = prober
        self._release_id = release_id
        self._key_digest = _digest(client_key.encode()) if client_key else None
        self._authorization = (b"authorization", f"Bearer {internal_key}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # LiteLLM's websocket routes are not ours; closing before accept answers 403.
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["path"] in (_READY, _LIVE) and scope["method"] in ("GET", "HEAD"):
            await self._health(scope["path"], send)
            return
        refusal = self._refuse(scope)
        if refusal is not None:
            await _send_reply(refusal, send)
            return
        try:
            await self._pass_on(scope, receive, _Outward(send, self._identity))
        except ClientGone:
            return

    async def _pass_on(self, scope: Scope, receive: Receive, outward: _Outward) -> None:
        inward = dict(scope)
        inward["headers"] = [*_inward(scope["headers"]), self._authorization]
        if scope["method"] == "POST":
            raw = await read_body(receive)
            body = raw if isinstance(raw, Reply) else clean_body(raw)
            if isinstance(body, Reply):
                await outward.reply(body)
                return
            inward["headers"].append((b"content-length", str(len(body)).encode()))
            receive = _again(body, receive)
        try:
            await self._app(inward, receive, outward)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets no stack trace
            # The class only: a message may quote the prompt.
            logger.error("serving %s failed: %s", scope["path"], type(error).__name__)
            await outward.reply(INTERNAL)

    def _refuse(self, scope: Scope) -> Reply | None:
        if not self._key_fits(scope["headers"]):
            return BAD_KEY
        path = scope["path"]
        allowed = "GET" if path.startswith(_MODEL_PREFIXES) else _ROUTES.get(path)
        if allowed is None or path.endswith("/"):
            return NO_ROUTE
        return None if scope["method"] == allowed else wrong_method(allowed)

    def _key_fits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        if self._key_digest is None:
            return True
        given = b""
        for name, value in headers:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                given = value[7:].strip()
        # Digests have one length, so the time to compare says nothing of the key.
        return hmac.compare_digest(_digest(given), self._key_digest)

    async def _health(self, path: str, send: Send) -> None:
        ready = self._prober.ready()
        body = {
            "status": "ready" if ready else "no engine can answer",
            "engines": {name: str(one.state) for name, one in self._prober.engines.items()},
            "release": self._release_id,
        }
        if path == _LIVE:
            ready, body = True, {"status": "alive"}
        await _send_json(200 if ready else 503, json.dumps(body).encode(), (), send)

    def _identity(self, engine: EngineName) -> Headers:
        health = self._prober.engines.get(engine)
        release = (health.release if health else None) or self._release_id
        return [
            (ENGINE_HEADER.encode(), engine.encode()),
            (RELEASE_HEADER.encode(), release.encode()),
        ]


class _Outward:
    """The `send` given to LiteLLM: passes good answers on at once, holds errors to rewrite them."""

    def __init__(self, send: Send, identity: Callable[[EngineName], Headers]) -> None:
        self._send = send
        self._identity = identity
        self._error_status: int | None = None
        self._error_body = b""
        self._stream = False
        self._started = False

    async def reply(self, reply: Reply) -> None:
        """Answer with `reply`; a started answer stays cut, which the client sees."""
        if not self._started:
            self._started = True
            await _send_reply(reply, self._send)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] == "http.response.body" and self._error_status is not None:
            self._error_body += message.get("body", b"")
            if not message.get("more_body", False):
                await self.reply(from_upstream(self._error_status, self._error_body))
        elif message["type"] == "http.response.body" and self._stream:
            await self._send({**message, "body": _clean_event(message.get("body", b""))})
        else:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        if message["status"] >= 400:
            self._error_status = message["status"]
            return
        headers: Headers = []
        for name, value in message.get("headers", ()):
            lower = name.lower()
            if lower == _DEPLOYMENT_HEADER and (engine := engine_of(value.decode("latin-1"))):
                headers += self._identity(engine)
            elif lower == _REQUEST_ID_HEADER:
                headers.append((b"x-request-id", value))
            elif not lower.startswith(_INTERNAL_PREFIXES):
                headers.append((name, value))
            if lower == b"content-type" and value.startswith(b"text/event-stream"):
                self._stream = True
        self._started = True
        await self._send({**message, "headers": headers})


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _inward(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """A client's headers less its key, its length (the body may change), and LiteLLM's own."""
    return [
        (name, value)
        for name, value in headers
        if name not in _CONSUMED_HEADERS and not name.startswith(b"x-litellm-")
    ]


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, then what the client does next (hang up)."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _clean_event(chunk: bytes) -> bytes:
    """Replace LiteLLM's error event by ours; a tool call or text passes untouched."""
    at = chunk.find(_ERROR_EVENT)
    if at < 0 or (at > 0 and chunk[at - 1 : at] != b"\n"):
        return chunk
    event, end, rest = chunk[at:].partition(b"\n\n")
    reply = _event_reply(event.removeprefix(b"data: "))
    return chunk[:at] + b"data: " + reply.body() + (end or b"\n\n") + rest


def _event_reply(body: bytes) -> Reply:
    try:
        code = int(json.loads(body)["error"].get("code") or 500)
    except (ValueError, TypeError, LookupError, AttributeError):
        code = 500
    if code in (408, 504):
        return TIMED_OUT
    return BROKEN_STREAM if code >= 500 else from_upstream(code, body)


async def _send_reply(reply: Reply, send: Send) -> None:
    await _send_json(reply.status, reply.body(), reply.headers, send)


async def _send_json(
    status: int, body: bytes, headers: Iterable[tuple[str, str]], send: Send
) -> None:
    sent = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    sent += [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
