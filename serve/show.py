"""What the command `serve` prints: access, status, logs."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve import native
from serve.settings import PREFIX, Settings
from serve.state import PartState

# A pipe has no width that a table could be fitted into.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def say(message: str) -> None:
    """Print a line as it is."""
    console.print(escape(message))


def print_access(settings: Settings, stack: native.Up) -> None:
    key = (
        f"${PREFIX}API_KEY" if settings.api_key else f"$(cat {shlex.quote(str(settings.key_file))})"
    )
    body = json.dumps(
        {"model": settings.model_name, "messages": [{"role": "user", "content": "Hello"}]}
    )
    say(
        f"""
release   {stack.release}
base URL  {stack.url}
API key   {settings.key_file}

curl {stack.url}/chat/completions \\
  -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d {shlex.quote(body)}"""
    )


def phase(state: PartState | None) -> str:
    if state is None:
        return "stopped"
    if not state.running() and state.phase != "failed":
        return "crashed"
    return state.phase


def row(part: str, state: PartState | None) -> dict[str, Any]:
    row: dict[str, Any] = {"part": part, "phase": phase(state)}
    if state is not None:
        row |= {
            "url": state.url,
            "release": state.release,
            "pid": state.launcher.pid,
            "engine_pid": state.engine.pid if state.engine else None,
            "restarts": state.restarts,
            "since": state.since.isoformat(),
            "message": state.message,
        }
    return row


def print_status(parts: dict[str, PartState | None]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "phase", "url", "release", "restarts", "since"):
        table.add_column(heading, no_wrap=True)
    for part, state in parts.items():
        cells = row(part, state)
        table.add_row(
            *(str(cells.get(key, "")) for key in ("part", "phase", "url", "release")),
            *(str(cells.get(key, "")) for key in ("restarts", "since")),
        )
    console.print(table)
    for part, state in parts.items():
        if state is not None and state.message:
            say(f"\n{part}: {state.message}")


def show_logs(paths: list[Path], lines: int, follow: bool) -> None:
    positions = {}
    for path in paths:
        text = path.read_bytes()
        positions[path] = len(text)
        if len(paths) > 1:
            say(f"==> {path} <==")
        kept = text.splitlines(keepends=True)[-lines:] if lines else []
        sys.stdout.buffer.write(b"".join(kept))
        sys.stdout.flush()
    while follow:
        for path in paths:
            # A new start begins a new file.
            size = path.stat().st_size if path.exists() else 0
            start = positions[path] if size >= positions[path] else 0
            if size > start:
                with path.open("rb") as file:
                    file.seek(start)
                    sys.stdout.buffer.write(file.read())
                    positions[path] = file.tell()
                sys.stdout.flush()
        time.sleep(0.3)
