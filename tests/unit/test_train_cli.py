"""`finetune` and `infer` from outside: exit codes, messages, and what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from train import cli
from train.embedded.generator import conversations
from train.glaive import write_row

ROOT = Path(__file__).parent.parent.parent
# Small enough to run in seconds on the tiny base.
SETTINGS = {"eval_cases": 2, "max_steps": 2, "max_samples": 4, "gguf": ["Q8_0"]}


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command in an empty folder, as its entry point does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    # The command sets up logging; the next test has its own stderr.
    monkeypatch.setattr(cli, "_set_up", lambda verbose: None)

    def run(command: str, *arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            getattr(cli, command)()
        seen = capsys.readouterr()
        assert "Traceback" not in seen.err
        return Ran(int(left.value.code or 0), seen.out, seen.err)

    return run


@pytest.fixture
def settings(tmp_path: Path, tiny_base: Path) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps({**SETTINGS, "base": str(tiny_base)}), encoding="utf-8")
    return file


def write_rows(file: Path, count: int, broken: int = 0) -> Path:
    rows = [json.dumps(write_row(row)) for row in conversations("train", count, 1)]
    file.write_text("\n".join(rows + ['{"system": '] * broken) + "\n", encoding="utf-8")
    return file


# --- wrong use: exit code 2 ---


def test_help_shows_defaults_and_an_example(run: Run) -> None:
    for command in ("finetune", "infer"):
        ran = run(command, "--help")
        assert ran.code == 0
        assert f"Example: {command} " in ran.out
        assert "[default: " in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "smolm2-135m"], "did you mean 'smollm2-135m'?"),
        (["--gguf", "Q9"], "setting gguf"),
        (["--max-steps", "0"], "setting max_steps"),
        (["--max-steps", "many"], "--max-steps"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_finetune_used_wrongly(run: Run, arguments: list[str], message: str) -> None:
    ran = run("finetune", *arguments)
    assert ran.code == 2
    assert message in ran.err
    assert ran.out == ""


def test_brackets_in_a_message_stay(run: Run) -> None:
    """Rich would take them for markup: swallow them, or fail on a closing tag."""
    assert "^[a-z0-9][a-z0-9.-]{0,62}$" in run("finetune", "--name", "A").err
    assert "got 'A[/b]'" in run("finetune", "--name", "A[/b]").err
    ran = run("infer", "hi", "--tools", "x[/b].json")
    assert (ran.code, "x[/b].json" in ran.err) == (1, True)


def test_infer_refuses_an_unknown_part(run: Run) -> None:
    ran = run("infer", "hi", "--part", "gguf")
    assert ran.code == 2
    assert "neither adapter nor merged" in ran.err


# --- a run that cannot go on: exit code 1 ---


def test_a_missing_data_file_is_named(run: Run, settings: Path) -> None:
    ran = run("finetune", "--config", settings, "--no-merge", "--data", "none.jsonl")
    assert ran.code == 1
    assert "none.jsonl" in ran.err


def test_an_empty_data_file_is_named(run: Run, settings: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    ran = run("finetune", "--config", settings, "--no-merge", "--data", "empty.jsonl")
    assert ran.code == 1
    assert "empty.jsonl" in ran.err


def test_too_many_broken_rows_stop_the_run_and_are_shown(
    run: Run, settings: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.jsonl", 4, broken=6)
    ran = run("finetune", "--config", settings, "--no-merge", "--data", "rows.jsonl")
    assert ran.code == 1
    assert "6 of 10 rows cannot be used (json 6)" in ran.err
    assert "row 5: json" in ran.err
    assert len((tmp_path / ".cache/rejects.jsonl").read_text().splitlines()) == 6


def test_missing_converter_is_told_at_once(
    run: Run, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLSMITH_LLAMA_CPP", str(tmp_path / "nothing"))
    ran = run("finetune", "--config", settings)
    assert ran.code == 1
    assert "run `make setup`" in ran.err


@pytest.mark.parametrize("content", ["{", "{}", "[3]", '[{"description": "no name"}]'])
def test_a_bad_tools_file_is_named(run: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "tools.json").write_text(content, encoding="utf-8")
    ran = run("infer", "hi", "--tools", "tools.json", "--model", ".")
    assert ran.code == 1
    assert "tools file tools.json" in ran.err


def test_a_model_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    assert "stable" in run("infer", "hi").err
    ran = run("infer", "hi", "--model", tmp_path)
    assert ran.code == 1
    assert "holds neither an adapter nor a merged model" in ran.err


# --- runs that work, on the tiny base ---


def test_an_adapter_alone(run: Run, settings: Path, tmp_path: Path) -> None:
    """From rows in a file, some broken, to an adapter that answers; no release."""
    write_rows(tmp_path / "rows.jsonl", 40, broken=1)
    ran = run("finetune", "--config", settings, "--no-merge", "--data", "rows.jsonl", "--json")
    assert ran.code == 0, ran.err
    made = json.loads(ran.out)
    assert made["release"] is None
    assert made["adapter"] == "models/adapters/smollm2-135m-tools"
    assert "Training: 2 steps" in ran.err
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["adapters"]

    tools = [{"type": "function", "function": {"name": "f"}}]
    (tmp_path / "tools.json").write_text(json.dumps(tools), encoding="utf-8")
    asked = ["hi", "--model", made["adapter"], "--tools", "tools.json", "--max-tokens", "4"]
    answer = json.loads(run("infer", *asked, "--json").out)
    assert answer["role"] == "assistant"
    plain = run("infer", *asked)
    assert (plain.code, plain.out.strip()) == (0, answer["content"].strip())


def test_ctrl_c_in_training_leaves_no_release(settings: Path, tmp_path: Path) -> None:
    endless = {**json.loads(settings.read_text()), "max_steps": 1_000_000}
    settings.write_text(json.dumps(endless), encoding="utf-8")
    tools = tmp_path / "llama.cpp"
    tools.mkdir()
    (tools / "convert_hf_to_gguf.py").touch()
    command = "from train.cli import finetune; finetune()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "--config", settings, "--output", tmp_path / "models"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TOOLSMITH_LLAMA_CPP": str(tools),
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        # The last line before the training; training itself speaks every 10 s.
        read = _read_until(process.stderr, r"Evaluation \(unseen, base\): .* exact")
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "stopped by Ctrl-C: nothing was sealed" in rest
    assert "Traceback" not in read + rest
    assert out == ""
    assert _releases(tmp_path / "models") == []


def _read_until(stream: IO[str], pattern: str) -> str:
    read = ""
    for line in stream:
        read += line
        if re.search(pattern, line):
            return read
    raise AssertionError(f"it ended before {pattern!r}:\n{read}")


def _releases(store: Path) -> list[Any]:
    from release.store import ReleaseStore

    listing = ReleaseStore(store).list()
    return [*listing.releases, *listing.problems]
