"""The parts of the native stack: which launcher runs each, on which port, with which files."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from serve.engine import url_of
from serve.errors import ServeError
from serve.gateway import Gateway
from serve.llamacpp.engine import LlamaCpp
from serve.process import check_port
from serve.settings import PREFIX, Settings
from serve.source import Source
from serve.state import read_state
from serve.vllm.engine import Vllm

# In the order in which they are stopped: what asks before what answers.
PARTS = ("gateway", "vllm", "llamacpp")

# The settings that each launcher is given; the others do not concern it.
_SHARED = {"store", "cache", "channel", "model_name", "host", "drain_seconds", "start_seconds"}
_ENGINE = {"context_length", "threads"}
_OWN = {
    "gateway": {"gateway_port", "gateway_python"},
    "llamacpp": _ENGINE | {"llamacpp_port", "quant", "slots", "prompt_cache_mib", "llama_server"},
    "vllm": _ENGINE
    | {"vllm_port", "vllm_python", "vllm_device", "vllm_kv_cache_gib", "vllm_max_seqs"},
}


@dataclass(frozen=True)
class Part:
    """A part that should run: its launcher's command and where it listens."""

    name: str
    command: tuple[str, ...]
    port: int


def state_file(settings: Settings, part: str) -> Path:
    """Where a part's launcher writes its state."""
    return settings.run_dir / f"{part}.json"


def log_file(settings: Settings, part: str) -> Path:
    """A part's log; the one of the start before is beside it, as <part>.log.1."""
    return settings.run_dir / "logs" / f"{part}.log"


def wanted_parts(settings: Settings, source: Source, vllm: bool) -> list[Part]:
    """The parts to run.

    Raises:
        ServeError: something that one of them needs is missing. Making each engine once finds that
            before anything starts.
    """
    LlamaCpp(source, settings)
    engines = {"cpu": url_of(settings.host, settings.llamacpp_port)}
    parts = [Part("llamacpp", _launcher(settings, source, "llamacpp"), settings.llamacpp_port)]
    if vllm:
        Vllm(source, settings)
        engines = {"gpu": url_of(settings.host, settings.vllm_port), **engines}
        parts.append(Part("vllm", _launcher(settings, source, "vllm"), settings.vllm_port))
    Gateway(source, settings, engines)
    command = _launcher(settings, source, "gateway")
    for name, url in engines.items():
        command += ("--engine", f"{name}={url}")
    return [*parts, Part("gateway", command, settings.gateway_port)]


def _launcher(settings: Settings, source: Source, part: str) -> tuple[str, ...]:
    """A launcher's command line; all that decides what runs is in it, to be compared."""
    given = settings.model_dump(exclude={"api_key", "engine_key"}, exclude_none=True, mode="json")
    command = [sys.executable, "-m", "serve", part, "--release", source.manifest.id]
    for name in sorted((_SHARED | _OWN[part]) & given.keys()):
        command += [f"--{name.replace('_', '-')}", str(given[name])]
    return (*command, "--state-file", str(state_file(settings, part)))


def check_ports(settings: Settings, parts: Iterable[Part]) -> None:
    """Refuse taken ports before anything is stopped or started; our own parts will free theirs."""
    ours: set[str] = set()
    for name in PARTS:
        state = read_state(state_file(settings, name))
        if state is not None and state.running():
            ours.add(state.url)
    seen: dict[int, str] = {}
    for part in parts:
        variable = f"{PREFIX}{part.name.upper()}_PORT"
        if part.port in seen:
            raise ServeError(
                f"port {part.port} is given to {seen[part.port]} and to {part.name}: "
                f"set {variable} to another port"
            )
        seen[part.port] = part.name
        if url_of(settings.host, part.port) not in ours:
            check_port(settings.host, part.port, variable)
