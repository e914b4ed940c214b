"""An engine as the supervisor sees it: how to start it, when it serves, how busy it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httpx


class NotReadyError(Exception):
    """The engine does not serve yet, but may later; the message says why."""


class Engine(Protocol):
    """A program that serves HTTP.

    Probes get a client bound to the engine's address and key; they raise NotReadyError or an
    httpx error for "not yet", ServeError for "it never will".
    """

    @property
    def part(self) -> str:
        """Its name in logs and state: llamacpp, vllm or gateway."""

    @property
    def program(self) -> Program:
        """What to run."""

    def probe(self, client: httpx.Client) -> None:
        """Return once the engine serves what it should."""

    def in_flight(self, client: httpx.Client) -> int:
        """Requests accepted and not answered."""


@dataclass(frozen=True)
class Program:
    """A command line, what changes in the environment, and where it listens.

    A variable whose value is None is taken out of the environment. `grace_seconds` is the time
    from SIGTERM to SIGKILL.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str | None]
    url: str
    release: str
    grace_seconds: float = 10
    # Not printed with the rest: it must stay out of logs.
    key: str | None = field(default=None, repr=False)

    def environment(self) -> dict[str, str]:
        """This process's environment with the changes made."""
        changed = {**os.environ, **self.env}
        return {name: value for name, value in changed.items() if value is not None}

    def client(self, timeout_seconds: float) -> httpx.Client:
        """A client bound to the engine; it ignores proxies of the environment."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout_seconds, trust_env=False
        )


def url_of(host: str, port: int) -> str:
    """Where to reach a server on this machine that listens on `host`."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"


def gauge(metrics: str, *names: str) -> int:
    """Sum of the named gauges, over all their labels, in Prometheus' text format."""
    total = 0.0
    for name in names:
        for value in re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", metrics, re.MULTILINE):
            total += float(value)
    return round(total)
