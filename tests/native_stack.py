"""Runs the command `serve` as a user does: as processes, with a store and a cache of their own."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
FAKE = Path(__file__).parent / "fake_server.py"
DEADLINE_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


@dataclass(frozen=True)
class Stack:
    """The environment of `serve`; parts are real engines unless `fake_environment` is in it."""

    cache: Path
    environment: dict[str, str]

    def port(self, part: str) -> int:
        return int(self.environment[f"TOOLSMITH_{part.upper()}_PORT"])

    def url(self, part: str) -> str:
        return f"http://127.0.0.1:{self.port(part)}"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "serve", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def serve(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def status(self) -> dict[str, dict[str, Any]]:
        _, output = self.serve("status", "--json")
        return {row["part"]: row for row in json.loads(output)}

    @contextmanager
    def launcher(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A launcher in the foreground, ended afterwards; its output goes to the folder's log."""
        with (self.cache / "launcher.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "serve", *arguments],
                cwd=ROOT,
                env={**os.environ, **self.environment, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGTERM)
                process.wait(60)

    def log(self) -> str:
        return (self.cache / "launcher.log").read_text()

    def wait_ready(self, process: subprocess.Popen[str], seconds: float = 300) -> None:
        def ready() -> bool:
            assert process.poll() is None, self.log()
            return "is ready on" in self.log()

        eventually(ready, "the launcher is ready", seconds)


def stack(folder: Path, store: Path, **environment: str) -> Stack:
    """A stack on free ports."""
    cache = folder / "cache"
    cache.mkdir()
    ports = {f"TOOLSMITH_{part}_PORT": str(free_port()) for part in ("LLAMACPP", "VLLM", "GATEWAY")}
    settings = {"TOOLSMITH_STORE": str(store), "TOOLSMITH_CACHE": str(cache)}
    return Stack(cache, {**settings, **ports, **environment})


def fake_environment() -> dict[str, str]:
    """Makes every part a fake one."""
    names = ("LLAMA_SERVER", "VLLM_PYTHON", "GATEWAY_PYTHON")
    return {f"TOOLSMITH_{name}": str(FAKE) for name in names}


def children(session: int) -> list[int]:
    """Processes of a session."""
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _session(path) == session
    ]


def _session(process: Path) -> int:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] == "Z" else int(fields[3])


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
