"""`python -m gateway`: what it refuses, with which exit code."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from gateway.__main__ import main
from tests.gateway_stack import RELEASE, make_store

ENGINE = ["--engine", "cpu=http://127.0.0.1:8080"]


@pytest.fixture
def store(tmp_path: Path) -> list[str]:
    return ["--store", str(make_store(tmp_path / "store"))]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, " ".join(result.output.split())


def test_help_shows_defaults_and_an_example() -> None:
    code, output = run("--help")
    assert code == 0
    assert "127.0.0.1" in output
    assert "4000" in output
    assert "Example: python -m gateway --engine" in output


def test_print_config_is_litellms_yaml(store: list[str]) -> None:
    result = CliRunner().invoke(main, [*ENGINE, *store, "--print-config"])
    assert result.exit_code == 0
    names = [m["model_name"] for m in yaml.safe_load(result.output)["model_list"]]
    assert names == ["toolsmith", RELEASE, "toolsmith@cpu"]


def test_model_name_comes_from_the_environment(
    store: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLSMITH_MODEL_NAME", "smith")
    _, output = run(*ENGINE, *store, "--print-config")
    assert "smith@cpu" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no engine"),
        (["--engine", "tpu=http://h:1"], "unknown engine"),
        ([*ENGINE, "--model-name", "a@b"], "model_name"),
        ([*ENGINE, "--host", "0.0.0.0"], "--key-file"),
        ([*ENGINE, "--port", "70000"], "70000"),
    ],
)
def test_wrong_use_is_2(store: list[str], arguments: list[str], said: str) -> None:
    code, output = run(*arguments, *store)
    assert code == 2
    assert said in output


def test_no_release_in_the_channel_is_1(tmp_path: Path) -> None:
    code, output = run(*ENGINE, "--store", str(tmp_path))
    assert code == 1
    assert "no channel 'stable'" in output
    assert "release promote" in output


def test_missing_key_file_is_1(store: list[str], tmp_path: Path) -> None:
    code, output = run(*ENGINE, *store, "--key-file", str(tmp_path / "none"))
    assert code == 1
    assert "cannot be read" in output


def test_taken_port_is_1_and_json_says_so(store: list[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, output = run(*ENGINE, *store, "--port", port, "--json")
    assert code == 1
    assert f"port {port}" in json.loads(output)["error"]
