"""What a run shows where there is no terminal, and where there is one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from train import progress
from train.progress import Reporter


def reporter(*, terminal: bool = False) -> tuple[Reporter, io.StringIO]:
    text = io.StringIO()
    return Reporter(Console(file=text, force_terminal=terminal, width=120)), text


def test_a_stage_leaves_one_line_with_its_note_and_time() -> None:
    report, text = reporter()
    with report.stage("Rows") as stage:
        stage.note = "12 to train on"
    assert text.getvalue() == f"Rows: 12 to train on ({report.seconds['Rows']:.1f} s)\n"


def test_without_a_terminal_progress_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY", -1.0)
    report, text = reporter()
    with report.stage("Training", 4) as stage:
        stage.advance(1, "loss 2.000")
        stage.advance(4, "loss 1.000")
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("Training: 1/4 loss 2.000 ETA ")
    assert lines[1] == "Training: 4/4 loss 1.000 ETA 0 s"
    assert "\x1b" not in text.getvalue()


def test_plain_lines_keep_their_distance() -> None:
    report, text = reporter()
    with report.stage("Training", 1000) as stage:
        for step in range(1000):
            stage.advance(step)
    assert len(text.getvalue().splitlines()) == 1


def test_on_a_terminal_the_bar_goes_and_the_closing_line_stays() -> None:
    report, text = reporter(terminal=True)
    with report.stage("Training", 4) as stage:
        stage.advance(2, "loss 2.000")
    assert "ETA" in text.getvalue()
    assert text.getvalue().splitlines()[-1].startswith("\x1b[1A\x1b[2KTraining ")


def test_a_total_may_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY", -1.0)
    report, text = reporter()
    with report.stage("Training") as stage:
        stage.advance(1)
        stage.set_total(8)
        stage.advance(2)
    assert [line for line in text.getvalue().splitlines() if "/" in line] == [
        line for line in text.getvalue().splitlines() if line.startswith("Training: 2/8")
    ]


def test_a_stage_that_fails_leaves_no_line_and_no_bar() -> None:
    report, text = reporter()
    with pytest.raises(RuntimeError), report.stage("Training", 4):
        raise RuntimeError
    assert text.getvalue() == ""
    assert report.seconds == {}


def test_a_note_is_shown_as_it_is() -> None:
    """A path or a name may hold what rich takes for markup."""
    report, text = reporter()
    with report.stage("Adapter") as stage:
        stage.note = "out[red]/a[/b]"
    assert text.getvalue().startswith("Adapter: out[red]/a[/b] (")
