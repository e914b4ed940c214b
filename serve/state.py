"""What the native stack knows of a running part: one small file each, written by its launcher."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve.process import Identity

Phase = Literal["starting", "ready", "restarting", "draining", "failed"]


class PartState(BaseModel):
    """A launcher and the engine that it looks after.

    `command` is the launcher's own command line: `up` compares it to what it would start.
    """

    model_config = ConfigDict(frozen=True)

    part: str
    phase: Phase
    launcher: Identity
    engine: Identity | None = None
    command: tuple[str, ...]
    url: str
    release: str
    restarts: int = 0
    message: str = ""
    since: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def running(self) -> bool:
        """Whether the launcher runs."""
        return self.launcher.alive()


def read_state(path: Path) -> PartState | None:
    """The state in a file; None where there is none or it is damaged."""
    try:
        return PartState.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_state(path: Path, state: PartState) -> None:
    """Replace a state file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(state.model_dump_json(indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def remove_state(path: Path) -> None:
    """Remove a state file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
