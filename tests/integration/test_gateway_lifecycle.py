"""Start without a key, and a stop that lets a running stream end."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway_stack import FakeEngine, running_gateway, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def test_sigterm_lets_a_stream_end_and_exits_with_0(tmp_path: Path) -> None:
    engine = FakeEngine("cpu")
    engine.start()
    try:
        with running_gateway(tmp_path, "--engine", f"cpu={engine.url}", key=None) as gateway:
            engine.fault("slow")
            hello: Any = [{"role": "user", "content": "hello"}]
            stream = gateway.client("any").chat.completions.create(
                model="toolsmith", messages=hello, stream=True
            )
            first = next(iter(stream))
            gateway.process.send_signal(signal.SIGTERM)
            wait_for(lambda: _refuses(gateway.url), "no new connections")
            rest = [chunk.choices[0].delta.content or "" for chunk in stream]
            text = (first.choices[0].delta.content or "") + "".join(rest)
            assert text.strip() == "hello from cpu"
            assert gateway.process.wait(15) == 0
    finally:
        engine.kill()


def _refuses(url: str) -> bool:
    try:
        httpx.get(f"{url}/health/liveliness")
    except httpx.ConnectError:
        return True
    return False
