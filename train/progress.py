"""What a run shows: a live bar on a terminal, plain lines elsewhere; and each stage's time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


class Reporter:
    """Stages of a run on a console. `seconds` maps each finished stage to its duration."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Show a stage while it runs and its duration when it is done."""
        started = time.monotonic()
        stage = Stage(self.console, name, total)
        with stage:
            yield stage
        self.seconds[name] = time.monotonic() - started
        note = f": {stage.note}" if stage.note else ""
        self.console.print(
            f"{escape(name + note)} [dim]({self.seconds[name]:.1f} s)[/dim]",
            highlight=False,
            soft_wrap=True,
        )


class Stage:
    """One running stage. `note` stays behind in its closing line."""

    def __init__(self, console: Console, name: str, total: int | None) -> None:
        self.console = console
        self.name = name
        self.total = total
        self.note = ""
        self._started = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=total, detail="")

    def __enter__(self) -> Stage:
        if self.console.is_terminal and self.total:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Stopping a bar that was never shown would leave an empty line.
        if self._bar.live.is_started:
            self._bar.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._started

    def set_total(self, total: int) -> None:
        """Tell how much there is to do, where that is known only later."""
        self.total = total
        self._bar.update(self._task, total=total)

    def advance(self, done: int, detail: str = "") -> None:
        """Tell how much is done; `detail` is shown beside it (loss, rate)."""
        self._bar.update(self._task, completed=done, detail=detail)
        now = time.monotonic()
        if not self.console.is_terminal and self.total and now - self._said > PLAIN_EVERY:
            self._said = now
            left = self.elapsed / max(done, 1) * (self.total - done)
            self.console.print(
                f"{escape(self.name)}: {done}/{self.total} {escape(detail)} ETA {left:.0f} s",
                highlight=False,
                soft_wrap=True,
            )
