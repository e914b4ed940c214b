"""Starts a gateway and its engines as processes, for the gateway's tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

ROOT = Path(__file__).resolve().parent.parent
GATEWAY_PYTHON = ROOT / ".venvs" / "gateway" / "bin" / "python"
RELEASE = "demo-20261123-0a1b2c3d"
KEY = "test-key"
# LiteLLM needs about 11 s of CPU to start; the rest is for a busy machine.
START_S = 180.0


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """Return the first true value of `condition`; a connection error counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if value := condition():
                return value
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_store(root: Path, release: str = RELEASE) -> Path:
    """A store with one channel file; the gateway reads nothing else of it."""
    (root / "channels").mkdir(parents=True)
    channel = {"name": "stable", "release": release, "changed": "2026-11-23T00:00:00Z"}
    (root / "channels" / "stable.json").write_text(json.dumps(channel))
    return root


@dataclass
class FakeEngine:
    """A fake engine's process; it can be killed and started again on the same port."""

    name: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Base URL, without /v1."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait for its port line."""
        script = str(ROOT / "tests" / "fake_engine.py")
        options = ["--port", str(self.port), "--name", self.name, "--release", RELEASE]
        command = [sys.executable, script, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == str(self.port)

    def kill(self) -> None:
        """SIGKILL, so that connections break."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def fault(self, mode: str) -> None:
        """Switch the fault; see tests/fake_engine.py."""
        httpx.post(f"{self.url}/fault", json={"mode": mode}).raise_for_status()

    def seen(self) -> list[dict[str, Any]]:
        """The chat requests that came, less the gateway's probes."""
        requests: list[dict[str, Any]] = httpx.get(f"{self.url}/seen").json()
        return requests


@dataclass
class Gateway:
    """A running gateway."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def states(self) -> dict[str, str]:
        """Engine → up, suspect or down."""
        states: dict[str, str] = httpx.get(f"{self.url}/health/readiness").json()["engines"]
        return states

    def wait_for_states(self, **wanted: str) -> None:
        """Wait until the engines are in these states."""
        wait_for(lambda: self.states() == wanted, f"engines {wanted}")

    def client(self, key: str = KEY) -> OpenAI:
        """The OpenAI SDK without retries of its own, so that each error is seen."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60)


@contextmanager
def running_gateway(folder: Path, *options: str, key: str | None = KEY) -> Iterator[Gateway]:
    """Start `python -m gateway` and wait until an engine can answer; stop it with SIGTERM."""
    port = free_port()
    key_options: list[str] = []
    if key is not None:
        (folder / "key").write_text(f"{key}\n")
        key_options = ["--key-file", str(folder / "key")]
    store = make_store(folder / "store")
    command = [str(GATEWAY_PYTHON), "-m", "gateway", "--port", str(port), "--store", str(store)]
    log = folder / "gateway.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, *key_options, *options],
            cwd=ROOT,
            env={**os.environ, "TOOLSMITH_MODEL_NAME": "toolsmith"},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    gateway = Gateway(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_for(lambda: _is_ready(gateway), f"gateway ready; see {log}", START_S)
        yield gateway
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _is_ready(gateway: Gateway) -> bool:
    assert gateway.process.poll() is None, gateway.log.read_text()
    return httpx.get(f"{gateway.url}/health/readiness").status_code == 200
