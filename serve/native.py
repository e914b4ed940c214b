"""The native stack: llama.cpp, vLLM and the gateway as processes of this machine.

`up` starts one launcher for each part, each in a session of its own, and leaves them running.
`<cache>/run/<part>.json` is a part's state, `<cache>/run/logs/<part>.log` its log.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from serve.engine import NotReadyError, url_of
from serve.errors import ServeError
from serve.keys import ensure_key, read_key
from serve.parts import PARTS, Part, check_ports, log_file, state_file, wanted_parts
from serve.process import POLL_SECONDS, Identity, wait_until
from serve.ready import generate_token
from serve.settings import Settings
from serve.source import Source, select
from serve.state import PartState, read_state, remove_state

# The gateway asks the engines every few seconds whether they answer.
GATEWAY_SECONDS = 60
FAILURE_LINES = 25


@dataclass(frozen=True)
class Up:
    """A stack that answers: `started` names what this call started, empty if nothing had to be."""

    url: str
    release: str
    started: tuple[str, ...]


def up(settings: Settings, vllm: bool, say: Callable[[str], None]) -> Up:
    """Bring the stack up with the channel's release, and prove that it answers.

    Parts that already run as wanted are left alone; others are drained and replaced. When it does
    not come up, or is interrupted, what this call started is stopped.

    Raises:
        ServeError: a part cannot be started; nothing that this call started is left running.
    """
    with _locked(settings):
        source = select(settings)
        wanted = wanted_parts(settings, source, vllm)
        key_changed = ensure_key(settings)
        keep = {part.name for part in wanted if _runs(settings, part)}
        if key_changed:
            keep.discard("gateway")
        start = [part for part in wanted if part.name not in keep]
        check_ports(settings, start)
        _stop(settings, [name for name in PARTS if name not in keep], say)
        started: list[Identity] = []
        try:
            _start(settings, start, started, say)
            _prove(settings, source, wanted)
        except BaseException:
            if started:
                say("stopping what was started")
            _end(started, [part.name for part in start], settings)
            raise
        url = f"{url_of(settings.host, settings.gateway_port)}/v1"
        return Up(url, source.manifest.id, tuple(part.name for part in start))


def down(settings: Settings, say: Callable[[str], None]) -> list[str]:
    """Drain and stop every part that runs; the names of those that did."""
    with _locked(settings):
        return _stop(settings, PARTS, say)


def status(settings: Settings) -> dict[str, PartState | None]:
    """Each part's state as its launcher left it, or None where it was never up or was stopped."""
    return {part: read_state(state_file(settings, part)) for part in reversed(PARTS)}


def _runs(settings: Settings, part: Part) -> bool:
    """Whether a part is ready and was started as it would be now."""
    state = read_state(state_file(settings, part.name))
    return (
        state is not None
        and state.running()
        and state.phase == "ready"
        and state.command == part.command
    )


def _start(
    settings: Settings, parts: Iterable[Part], started: list[Identity], say: Callable[[str], None]
) -> None:
    """Start all launchers at once and wait until each is ready."""
    waiting: dict[str, subprocess.Popen[bytes]] = {}
    for part in parts:
        say(f"starting {part.name} on port {part.port}")
        process = _spawn(settings, part)
        started.append(Identity.of(process.pid))
        waiting[part.name] = process
    begun = time.monotonic()
    while waiting:
        for name, process in list(waiting.items()):
            state = read_state(state_file(settings, name))
            ours = state is not None and state.launcher.pid == process.pid
            if process.poll() is not None:
                lines = "\n".join(f"  {line}" for line in _tail(log_file(settings, name)))
                raise ServeError(
                    f"{name} did not come up. The end of {log_file(settings, name)}:\n{lines}"
                )
            if state is not None and ours and state.phase == "ready":
                say(f"{name} is ready after {time.monotonic() - begun:.0f} s")
                del waiting[name]
        time.sleep(POLL_SECONDS)


def _spawn(settings: Settings, part: Part) -> subprocess.Popen[bytes]:
    path = log_file(settings, part.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))
    with path.open("wb") as output:
        return subprocess.Popen(
            part.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _prove(settings: Settings, source: Source, parts: Iterable[Part]) -> None:
    """Get a token through the gateway, from a gateway that sees every engine.

    Raises:
        ServeError: it does not come.
    """
    engines = sum(part.name != "gateway" for part in parts)
    reason = ""
    deadline = time.monotonic() + GATEWAY_SECONDS
    headers = {"Authorization": f"Bearer {read_key(settings)}"}
    url = url_of(settings.host, settings.gateway_port)
    with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                answer = client.get("/health/readiness")
                states = list(answer.json().get("engines", {}).values())
                if answer.is_success and states.count("up") == engines:
                    generate_token(client, settings.model_name)
                    return
                reason = answer.text[:300]
            except (NotReadyError, httpx.HTTPError, ValueError) as error:
                reason = str(error)
            time.sleep(POLL_SECONDS)
    raise ServeError(
        f"the engines are ready, but the gateway at {url} does not answer with release "
        f"{source.manifest.id}: {reason}"
    )


def _stop(settings: Settings, names: Iterable[str], say: Callable[[str], None]) -> list[str]:
    """Stop parts one after the other, gateway first, so that nobody asks a stopped engine."""
    stopped = []
    for name in names:
        state = read_state(state_file(settings, name))
        if state is None:
            continue
        if state.running():
            say(f"stopping {name}")
            stopped.append(name)
        _end([state.launcher], [name], settings)
    return stopped


def _end(launchers: list[Identity], names: Iterable[str], settings: Settings) -> None:
    """End launchers as they like to be ended, then whatever is left of them and their engines."""
    engines = [state.engine for name in names if (state := read_state(state_file(settings, name)))]
    for launcher in launchers:
        launcher.send(signal.SIGTERM)
    # Draining, the engine's own grace and a second for Python.
    patience = 2 * settings.drain_seconds + 20
    wait_until(lambda: not any(launcher.alive() for launcher in launchers), patience)
    for left in (*launchers, *engines):
        if left is not None:
            left.end_session(0)
    for name in names:
        remove_state(state_file(settings, name))


def _tail(path: Path, lines: int = FAILURE_LINES) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    except OSError:
        return []


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    """Only one `up` or `down` at a time.

    Raises:
        ServeError: another one runs, or the folder cannot be written.
    """
    try:
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(settings.run_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ServeError(f"{settings.run_dir} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ServeError(
            f"another `serve up` or `serve down` works on {settings.run_dir}: wait for it"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
