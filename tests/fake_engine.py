"""A fake engine: it stands in for faults that a real engine cannot make on demand.

It speaks enough of the OpenAI API for a gateway: chat completions plain, streamed and with tools,
completions, `/v1/models` and `/health`. `POST /fault {"mode": …}` switches what goes wrong:

    ok       nothing
    error    500 to every chat request, /health stays good
    busy     429 to every chat request
    hang     no byte to any chat request, /health stays good
    cut      streams break after three chunks; plain answers after the headers
    slow     streams pause before each chunk
    refuse   400 to every chat request, with a message that names an address

`GET /seen` returns the chat requests that came, less the gateway's own one-token probes.

    python tests/fake_engine.py --port 8000 --name gpu --release demo-20261123-0a1b2c3d
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

CALL = {"name": "get_weather", "arguments": '{"city": "Zürich", "unit": "celsius"}'}


class Engine(BaseHTTPRequestHandler):
    """One connection to the engine; what it shares with others is on the class."""

    protocol_version = "HTTP/1.1"
    # Otherwise each answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    name: ClassVar[str]
    models: ClassVar[list[str]]
    mode: ClassVar[str] = "ok"
    seen: ClassVar[list[dict[str, Any]]] = []
    released: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/health":
            self._json(200, {"status": "ok"})
        elif self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": name} for name in self.models]})
        elif self.path == "/seen":
            self._json(200, self.seen)
        else:
            self._json(404, {"error": {"message": f"no {self.path}"}})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/fault":
            type(self).mode = json.loads(raw)["mode"]
            self.released.set()
            type(self).released = threading.Event()
            self._json(200, {"mode": self.mode})
            return
        body = json.loads(raw)
        probe = body.get("max_tokens") == 1
        if not probe:
            self.seen.append({"body": body, "authorization": self.headers.get("authorization")})
        if self._faulty():
            return
        if not isinstance(body.get("stream", False), bool):
            self._json(400, {"error": {"message": "stream: Input should be a valid boolean"}})
        elif self.path == "/v1/completions":
            self._json(
                200, self._completion("text_completion", {"text": f"hello from {self.name}"})
            )
        elif self.path != "/v1/chat/completions":
            self._json(404, {"error": {"message": f"no {self.path}"}})
        elif body.get("stream"):
            self._stream(body)
        else:
            message = {"role": "assistant", **self._answer(body)}
            self._json(200, self._completion("chat.completion", {"message": message}))

    def _faulty(self) -> bool:
        if self.mode == "error":
            self._json(500, {"error": {"message": "CUDA error at http://10.0.0.7:8000/secret"}})
        elif self.mode == "busy":
            self._json(429, {"error": {"message": "too many requests"}})
        elif self.mode == "refuse":
            self._json(400, {"error": {"message": "bad request at http://10.0.0.7:8000/secret"}})
        elif self.mode == "hang":
            self.released.wait(120)
            self.close_connection = True
        else:
            return False
        return True

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        last = body["messages"][-1]
        if last["role"] == "tool":
            return {"content": f"The tool said {last['content']}"}
        if body.get("tools"):
            call = {"id": "call_1", "type": "function", "function": CALL}
            return {"content": None, "tool_calls": [call]}
        return {"content": f"hello from {self.name}"}

    def _completion(self, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        reason = "tool_calls" if choice.get("message", {}).get("tool_calls") else "stop"
        return {
            "id": "answer-1",
            "object": kind,
            "created": int(time.time()),
            "model": self.models[0],
            "choices": [{"index": 0, "finish_reason": reason, **choice}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        }

    def _stream(self, body: dict[str, Any]) -> None:
        answer = self._answer(body)
        pieces = list(_deltas(answer))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, delta in enumerate(pieces):
            if self.mode == "cut" and number == 3:
                # Give the chunks time to arrive: a reset overtakes data that was not read yet.
                time.sleep(0.3)
                self._cut()
                return
            if self.mode == "slow":
                time.sleep(0.3)
            self._event({"delta": delta, "finish_reason": None})
        reason = "tool_calls" if answer.get("tool_calls") else "stop"
        self._event({"delta": {}, "finish_reason": reason})
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
            self._event(None, usage=usage)
        self._chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _cut(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _event(self, choice: dict[str, Any] | None, **more: Any) -> None:
        event = {
            "id": "answer-1",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self.models[0],
            "choices": [{"index": 0, **choice}] if choice else [],
            **more,
        }
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.mode == "cut" and self.path == "/v1/chat/completions" and len(self.seen):
            self._cut()
            return
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the tests read /seen."""


def _deltas(answer: dict[str, Any]) -> Any:
    yield {"role": "assistant", "content": ""}
    if answer.get("tool_calls"):
        yield {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": CALL["name"], "arguments": ""},
                }
            ]
        }
        arguments = CALL["arguments"]
        for start in range(0, len(arguments), 7):
            piece = {"arguments": arguments[start : start + 7]}
            yield {"tool_calls": [{"index": 0, "function": piece}]}
    else:
        for word in answer["content"].split(" "):
            yield {"content": word + " "}


class Server(ThreadingHTTPServer):
    """Threads that do not outlive the process; a restart may take the port at once."""

    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is part of the tests."""


def main() -> None:
    """Serve until killed; the port is on the first line of stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--name", default="gpu")
    parser.add_argument("--model", default="toolsmith")
    parser.add_argument("--release", default="")
    options = parser.parse_args()
    Engine.name = options.name
    Engine.models = [options.model, *([options.release] if options.release else [])]
    with Server(("127.0.0.1", options.port), Engine) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
