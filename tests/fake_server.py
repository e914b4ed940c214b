#!/usr/bin/env python3
"""Stands in for llama-server, for vLLM's and for the gateway's interpreter in tests of launching.

It takes their command lines and answers what the launchers ask. FAKE_DIE makes it end at once with
that message; FAKE_MUTE makes it never become ready; FAKE_HOLD names a file: chat requests that
stream wait until it exists, and count as running meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

running = 0
lock = threading.Lock()


def flag(name: str, default: str = "") -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        engines = {
            value.split("=")[0]: "up"
            for name, value in zip(sys.argv, sys.argv[1:], strict=False)
            if name == "--engine"
        }
        if self.path == "/props":
            slots = int(flag("--parallel"))
            body: Any = {
                "chat_template": Path(flag("--chat-template-file")).read_text(),
                "total_slots": slots,
                "eos_token": os.environ.get("FAKE_EOS", "<|im_end|>"),
                "default_generation_settings": {"n_ctx": int(flag("--ctx-size")) // slots},
            }
        elif self.path == "/v1/models":
            start = sys.argv.index("--served-model-name") + 1
            length = int(flag("--max-model-len"))
            names = sys.argv[start : start + 2]
            body = {"data": [{"id": name, "max_model_len": length} for name in names]}
        elif self.path == "/health/readiness":
            body = {"status": "ready", "engines": engines, "release": "x"}
        else:
            prefix = "vllm:num_requests_" if "--max-model-len" in sys.argv else "llamacpp:requests_"
            name = "running" if "vllm" in prefix else "processing"
            self.reply(f"# HELP\n{prefix}{name} {running}\n".encode())
            return
        self.reply(json.dumps(body).encode())

    def do_POST(self) -> None:
        global running
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        hold = os.environ.get("FAKE_HOLD")
        if os.environ.get("FAKE_MUTE"):
            self.reply(b'{"error": "loading"}', 503)
            return
        with lock:
            running += 1
        while request.get("stream") and hold and not Path(hold).exists():
            time.sleep(0.02)
        with lock:
            running -= 1
        message = {"role": "assistant", "content": "Hello"}
        body = {
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        self.reply(json.dumps(body).encode())

    def reply(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    if os.environ.get("FAKE_DIE"):
        sys.exit(os.environ["FAKE_DIE"])
    ThreadingHTTPServer((flag("--host"), int(flag("--port"))), Handler).serve_forever()
