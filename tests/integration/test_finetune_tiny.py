"""`finetune` from rows to a sealed release with a GGUF file, then `infer`, on a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from release.store import ReleaseStore
from train.template import KNOWN

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parent.parent.parent
LLAMA_CPP = Path(os.environ.get("TOOLSMITH_LLAMA_CPP", ROOT / ".cache" / "llama.cpp"))
SETTINGS = {
    "name": "tiny",
    "data": "embedded",
    "eval_cases": 3,
    "max_samples": 6,
    "max_steps": 2,
    "packing": True,
}


def command(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command as its console script does, with no way to a model hub."""
    return subprocess.run(
        [sys.executable, "-c", f"from train.cli import {name}; {name}()", *map(str, arguments)],
        cwd=ROOT,
        env={
            **os.environ,
            "TOOLSMITH_LLAMA_CPP": str(LLAMA_CPP),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finetune")


@pytest.fixture(scope="module")
def arguments(folder: Path, tiny_base: Path) -> list[object]:
    settings = folder / "settings.yaml"
    settings.write_text(json.dumps({**SETTINGS, "base": str(tiny_base)}), encoding="utf-8")
    places = ["--output", folder / "models", "--cache", folder / "cache"]
    return ["--config", settings, "--gguf", "Q8_0", *places, "--json"]


@pytest.fixture(scope="module")
def made(arguments: list[object]) -> dict[str, Any]:
    """What the first run printed."""
    assert (LLAMA_CPP / "convert_hf_to_gguf.py").is_file(), (
        f"llama.cpp's converter is not in {LLAMA_CPP}: run `python3 environments.py main`"
    )
    done = command("finetune", *arguments)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_release_is_whole(made: dict[str, Any], folder: Path) -> None:
    store = ReleaseStore(folder / "models")
    listing = store.list()
    assert [release.id for release in listing.releases] == [made["release"]]
    assert not listing.problems
    assert not store.verify_files(made["release"])
    assert list((folder / "models").glob("releases/.*")) == []


def test_the_manifest_says_what_was_done(made: dict[str, Any], folder: Path) -> None:
    manifest = ReleaseStore(folder / "models").get(made["release"])
    template = KNOWN["chatml-hermes"]
    assert manifest.served.chat_template_sha256 == template.sha256
    assert (manifest.served.eos_token_id, manifest.served.stop_tokens) == (2, ["<|im_end|>"])
    assert manifest.served.context_length == 2048
    assert (manifest.dataset.name, manifest.dataset.rows) == ("embedded", 6)
    assert {score.set: score.cases for score in manifest.scores} == {"seen": 3, "unseen": 3}
    assert manifest.training["steps"] == 2
    assert manifest.training["config"]["max_samples"] == 6
    assert (manifest.training["rows"], manifest.training["rows_dropped"]) == (6, {})
    assert 0 < manifest.training["packs"] < 6
    assert 0.5 < manifest.training["packing_efficiency"] <= 1
    assert list(manifest.gguf()) == ["Q8_0"]
    assert str(folder) not in manifest.model_dump_json(exclude={"training", "base"})


def test_both_engines_get_the_trained_template(made: dict[str, Any], folder: Path) -> None:
    release = ReleaseStore(folder / "models").path(made["release"])
    source = KNOWN["chatml-hermes"].source
    assert (release / "merged" / "chat_template.jinja").read_text(encoding="utf-8") == source
    fields = GGUFReader(release / "gguf" / "tiny.Q8_0.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == source
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 2
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"


def test_the_reports_show_the_run(made: dict[str, Any], folder: Path) -> None:
    reports = ReleaseStore(folder / "models").path(made["release"]) / "reports"
    curve = [json.loads(line) for line in (reports / "training.jsonl").read_text().splitlines()]
    assert [step["step"] for step in curve] == [1, 2]
    data = json.loads((reports / "data.json").read_text(encoding="utf-8"))
    tokens = data["tokens"]
    assert data["rows"]["parts"]["train"] == tokens["rows"] + sum(tokens["dropped"].values())
    assert 0 < data["tokens"]["trained"] < data["tokens"]["total"]
    assert sum(data["kinds"].values()) == sum(data["rows"]["parts"].values())
    assert (reports / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    evaluation = json.loads((reports / "evaluation.json").read_text(encoding="utf-8"))
    assert {name: found["cases"] for name, found in evaluation.items()} == {"seen": 3, "unseen": 3}


@pytest.mark.parametrize("part", ["adapter", "merged"])
def test_infer_answers_from_both_parts(made: dict[str, Any], folder: Path, part: str) -> None:
    store = ["--store", folder / "models", "--cache", folder / "cache"]
    which = ["--model", made["release"], "--part", part, "--max-tokens", 5]
    done = command("infer", "Hello", *which, *store, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["role"] == "assistant"


def test_a_second_run_reuses_the_release(made: dict[str, Any], arguments: list[object]) -> None:
    done = command("finetune", *arguments, "--reuse")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert (again["release"], again["reused"]) == (made["release"], True)
    assert "Training" not in again["seconds"]
