"""Processes and ports: who is who, and how to end one with all that it started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from serve.errors import ServeError

_PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.1


class Identity(BaseModel):
    """A process: its id and when it started (Unix time), so that a recycled id is not it."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of a running process.

        Raises:
            psutil.NoSuchProcess: there is none of this id.
        """
        return cls(pid=pid, started=psutil.Process(pid).create_time())

    def alive(self) -> bool:
        """Whether this very process runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 0.05
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal if this very process still runs."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def session(self) -> list[int]:
        """Processes of the session that this one led: also those that outlived it.

        The kernel gives a session's number to no new process while a member lives, so a member
        without a leader is ours if it started after the leader did.
        """
        if self._recycled():
            return []
        members = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
                if (
                    os.getsid(process.pid) == self.pid
                    and process.create_time() >= self.started - 0.05
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    members.append(process.pid)
        return members

    def _recycled(self) -> bool:
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) >= 0.05
        except psutil.NoSuchProcess:
            return False

    def end_session(self, grace_seconds: float) -> None:
        """SIGTERM to the process, then SIGKILL to all that is left of its session."""
        self.send(signal.SIGTERM)
        wait_until(lambda: not self.alive(), grace_seconds)
        deadline = time.monotonic() + 10
        while (members := self.session()) and time.monotonic() < deadline:
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS / 2)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until a condition holds; False when it did not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def dies_with_parent() -> Callable[[], None] | None:
    """What to run in a new child so that the kernel kills it with its parent; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def arm() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return arm


def idle_cores(measure_seconds: float = 0.3) -> int:
    """Cores that this process may use and that are idle now, at least 1.

    Engines' threads wait for each other at every step, so one thread more than there are free
    cores makes all of them slow.
    """
    loads: list[float] = psutil.cpu_percent(measure_seconds, percpu=True)
    idle = len(loads) - sum(loads) / 100
    return max(1, round(min(idle, _allowed_cores())))


def _allowed_cores() -> float:
    """Cores that affinity and the container's quota leave to this process."""
    cores = float(os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        cores = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        # "max 100000" without a limit, "150000 100000" for one and a half cores.
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, int(quota) / int(period))
    return cores


def check_port(host: str, port: int, setting: str) -> None:
    """Make sure that a port can be listened on.

    Raises:
        ServeError: it is taken; names who holds it, where that can be told, and the setting.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            holder = _holder(port)
            raise ServeError(
                f"port {port} on {host} cannot be used: "
                f"{f'held by {holder}' if holder else error.strerror}. "
                f"Free it, or set {setting} to another port"
            ) from None


def _holder(port: int) -> str | None:
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port:
                if connection.pid is None:
                    return None
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline())[:80]
                return f"process {process.pid} ({command or process.name()})"
    return None
