"""The embedded release that the end-to-end tests serve: trained once, kept between runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.embedded.generator import conversations
from train.evaluate import Case, cases

ROOT = Path(__file__).parent.parent.parent
CACHE = ROOT / ".cache"
# Apart from models/, so that tests never promote or remove what somebody serves.
STORE = CACHE / "test-models"


@dataclass(frozen=True)
class Trained:
    """A release in STORE, and what `finetune --json` said of it."""

    release: str
    summary: dict[str, Any]

    @property
    def folder(self) -> Path:
        return STORE / "releases" / self.release


def environment(**more: str) -> dict[str, str]:
    """The environment of every command: this store, this cache."""
    settings = {"TOOLSMITH_STORE": str(STORE), "TOOLSMITH_CACHE": str(CACHE)}
    return {**os.environ, **settings, "PYTHONPATH": str(ROOT), **more}


def finetune(*arguments: str) -> dict[str, Any]:
    """Run `finetune` as a user does; a failure shows what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", "from train.cli import finetune; finetune()", "--json", *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def held_out(split: str, count: int) -> list[Case]:
    """The first held-out calls of a set, as evaluation uses them."""
    assert split in ("seen", "unseen")
    return cases(tuple(conversations(split, 200, 0)), count)  # type: ignore[arg-type]
