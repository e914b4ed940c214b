"""Keeps one engine running: start, prove ready, restart when it dies, drain and stop on a signal.

    starting ─► ready ─► (died) ─► restarting ─► ready …
        │          └─ SIGTERM ─► draining ─► gone
        └─ died or not ready in time: the launcher fails with the engine's last lines

Only an engine that has been ready once is restarted: one that never was has a wrong setting.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx

from serve.child import Child
from serve.engine import Engine, NotReadyError
from serve.errors import EngineDiedError, ServeError
from serve.process import Identity
from serve.state import PartState, Phase, remove_state, write_state

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
PROBE_TIMEOUT_SECONDS = 30
# An idle engine may still be sending its last bytes, or be taking in a request not yet counted.
IDLE_SECONDS = 0.6
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
# An engine that was ready for this long has recovered: the next death starts with a short wait.
STABLE_SECONDS = 60.0


class Supervisor:
    """Looks after one engine until a signal ends it.

    `start_seconds` bounds the wait for the first token, `drain_seconds` the wait for running
    requests; `state_file` says what is going on, where the native stack wants to know.
    """

    def __init__(
        self, engine: Engine, start_seconds: float, drain_seconds: float, state_file: Path | None
    ) -> None:
        self._engine = engine
        self._start_seconds = start_seconds
        self._drain_seconds = drain_seconds
        self._state_file = state_file
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._child: Child | None = None
        self._restarts = 0

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; a second one cuts the drain short.

        Raises:
            ServeError: the engine cannot be started, died before it was ready, or serves
                something other than the release.
        """
        with _signals(self._on_signal):
            try:
                self._keep_running()
            except ServeError as error:
                self._note("failed", str(error))
                raise
            finally:
                if self._child is not None:
                    self._child.end(self._engine.program.grace_seconds)
            if self._state_file is not None:
                remove_state(self._state_file)

    def _keep_running(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while not self._stop.is_set():
            child = self._start()
            try:
                if not self._wait_ready(child):
                    return
            except EngineDiedError as error:
                if not self._restarts:
                    raise
                problem = error
            else:
                self._note("ready")
                ready_since = time.monotonic()
                if self._wait_death(child):
                    self._drain(child)
                    return
                problem = child.died()
                if time.monotonic() - ready_since > STABLE_SECONDS:
                    backoff = FIRST_BACKOFF_SECONDS
            child.end(0)
            self._restarts += 1
            message = f"{self._engine.part} {problem}\nStarting it again in {backoff:.0f} s"
            log.error("%s (restart %d)", message, self._restarts)
            self._note("restarting", message)
            self._stop.wait(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)

    def _start(self) -> Child:
        log.info("starting %s for %s", self._engine.part, self._engine.program.release)
        self._child = Child(self._engine.program)
        self._note("restarting" if self._restarts else "starting")
        return self._child

    def _wait_ready(self, child: Child) -> bool:
        """Wait for a generated token; False when a signal came first."""
        started = time.monotonic()
        reason = "it did not answer"
        with self._engine.program.client(PROBE_TIMEOUT_SECONDS) as client:
            while not self._stop.wait(POLL_SECONDS):
                if not child.running():
                    raise EngineDiedError(f"{self._engine.part} did not start: it {child.died()}")
                try:
                    self._engine.probe(client)
                except httpx.ConnectError:
                    pass
                except (NotReadyError, httpx.HTTPError) as error:
                    reason = str(error) or type(error).__name__
                else:
                    seconds = time.monotonic() - started
                    url = self._engine.program.url
                    log.info("%s is ready on %s after %.1f s", self._engine.part, url, seconds)
                    return True
                if time.monotonic() - started > self._start_seconds:
                    raise ServeError(
                        f"{self._engine.part} was not ready after {self._start_seconds:.0f} s: "
                        f"{reason}. Give it more time with TOOLSMITH_START_SECONDS"
                    )
        return False

    def _wait_death(self, child: Child) -> bool:
        """Wait while the engine runs; True when a signal ended the wait."""
        while child.running():
            if self._stop.wait(POLL_SECONDS):
                return True
        return self._stop.is_set()

    def _drain(self, child: Child) -> None:
        """Wait until no request runs. llama.cpp, told to end earlier, leaves clients waiting."""
        self._note("draining")
        deadline = time.monotonic() + self._drain_seconds
        idle_since: float | None = None
        said = 0
        with self._engine.program.client(timeout_seconds=5) as client:
            while child.running() and not self._hurry.is_set():
                try:
                    running = self._engine.in_flight(client)
                except httpx.HTTPError:
                    # It may be too busy to answer; only the deadline ends the wait then.
                    running = max(said, 1)
                now = time.monotonic()
                if running and running != said:
                    log.info("%s: waiting for %d running requests", self._engine.part, running)
                said = running
                if running:
                    idle_since = None
                else:
                    idle_since = idle_since or now
                    if now - idle_since >= IDLE_SECONDS:
                        return
                if now >= deadline:
                    log.warning("%s: cut %d requests off", self._engine.part, running)
                    return
                self._hurry.wait(POLL_SECONDS)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _note(self, phase: Phase, message: str = "") -> None:
        if self._state_file is None:
            return
        state = PartState(
            part=self._engine.part,
            phase=phase,
            launcher=Identity.of(os.getpid()),
            engine=self._child.identity if self._child else None,
            command=tuple(sys.orig_argv),
            url=self._engine.program.url,
            release=self._engine.program.release,
            restarts=self._restarts,
            message=message,
        )
        write_state(self._state_file, state)


@contextmanager
def _signals(handler: signal._HANDLER) -> Iterator[None]:
    # A closed terminal too: vLLM's own children would outlive us.
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)
