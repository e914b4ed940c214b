"""`serve up`, `down`, `status` and `logs` with parts that do as the test says."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from release.store import ReleaseStore
from tests.native_stack import Stack, answers, eventually, fake_environment, stack
from tests.release_bundle import sealed

ALL = ("llamacpp", "vllm", "gateway")


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Stack]:
    store = ReleaseStore(tmp_path / "models")
    store.set_channel("stable", sealed(store).id)
    made = stack(tmp_path, tmp_path / "models", **fake_environment())
    try:
        yield made
    finally:
        made.serve("down", "--drain-seconds", "0")


def phases(native: Stack) -> dict[str, str]:
    return {part: row["phase"] for part, row in native.status().items()}


def nothing_runs(native: Stack) -> bool:
    urls = [f"{native.url(part)}/metrics" for part in ALL]
    return not any(answers(url) for url in urls) and not list((native.cache / "run").glob("*.json"))


def test_up_answers_and_down_leaves_nothing(native: Stack) -> None:
    assert native.serve("status")[0] == 1
    code, output = native.serve("up")
    assert code == 0, output
    assert f"base URL  {native.url('gateway')}/v1" in output
    assert "curl " in output
    key = native.cache / "run" / "api_key"
    assert str(key) in output
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().strip() not in output
    assert phases(native) == dict.fromkeys(ALL, "ready")
    assert native.serve("status")[0] == 0
    code, output = native.serve("down")
    assert (code, output.splitlines()[-1]) == (0, "stopped gateway, vllm, llamacpp")
    assert nothing_runs(native)
    assert native.serve("down") == (0, "nothing was running\n")
    assert key.exists()


def test_up_again_does_nothing(native: Stack) -> None:
    assert native.serve("up", "--no-vllm")[0] == 0
    before = native.status()
    code, output = native.serve("up", "--no-vllm")
    assert code == 0
    assert output.startswith("already up, nothing to do")
    assert native.status() == before
    assert phases(native)["vllm"] == "stopped"


def test_up_with_another_release_replaces_the_parts(native: Stack, tmp_path: Path) -> None:
    assert native.serve("up", "--no-vllm")[0] == 0
    store = ReleaseStore(tmp_path / "models")
    other = sealed(store, seed="two").id
    store.set_channel("stable", other)
    code, output = native.serve("up", "--no-vllm")
    assert code == 0, output
    assert "stopping llamacpp" in output
    assert native.status()["llamacpp"]["release"] == other


def test_a_taken_port_stops_up_before_anything_starts(native: Stack) -> None:
    with socket.create_server(("127.0.0.1", native.port("gateway"))):
        code, output = native.serve("up")
    assert code == 1
    assert f"port {native.port('gateway')}" in output
    assert f"process {os.getpid()}" in output
    assert "TOOLSMITH_GATEWAY_PORT" in output
    assert "starting" not in output


def test_two_parts_on_one_port_are_refused(native: Stack) -> None:
    port = str(native.port("gateway"))
    code, output = native.serve("up", "--llamacpp-port", port)
    assert code == 1
    assert f"port {port} is given to llamacpp and to gateway" in output


def test_a_part_that_does_not_come_up_takes_the_others_down(native: Stack) -> None:
    code, output = native.serve("up", FAKE_DIE="out of luck")
    assert code == 1
    assert "did not come up" in output
    assert "out of luck" in output
    assert nothing_runs(native)


def test_a_failed_up_leaves_what_ran_before(native: Stack, tmp_path: Path) -> None:
    assert native.serve("up", "--no-vllm")[0] == 0
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho vllm is broken; exit 7\n")
    script.chmod(0o755)
    code, output = native.serve("up", TOOLSMITH_VLLM_PYTHON=str(script))
    assert code == 1
    assert "vllm is broken" in output
    assert phases(native)["llamacpp"] == "ready"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupting_up_leaves_nothing_running(native: Stack, number: signal.Signals) -> None:
    process = native.start("up", FAKE_MUTE="1")
    eventually(lambda: answers(f"{native.url('llamacpp')}/metrics"), "an engine runs")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert nothing_runs(native)


def test_a_crashed_part_shows_and_up_mends_it(native: Stack) -> None:
    assert native.serve("up", "--no-vllm")[0] == 0
    launcher = native.status()["llamacpp"]["pid"]
    os.kill(launcher, signal.SIGKILL)
    eventually(lambda: phases(native)["llamacpp"] == "crashed", "it shows")
    assert native.serve("status")[0] == 1
    gateway = native.status()["gateway"]["pid"]
    code, output = native.serve("up", "--no-vllm")
    assert code == 0, output
    assert phases(native)["llamacpp"] == "ready"
    assert native.status()["gateway"]["pid"] == gateway


def test_a_recycled_pid_is_never_killed(native: Stack) -> None:
    assert native.serve("up", "--no-vllm")[0] == 0
    path = native.cache / "run" / "llamacpp.json"
    text = path.read_text()
    assert native.serve("down")[0] == 0
    # As if this test's process had got the numbers of the launcher and of its engine.
    state = json.loads(text)
    state["launcher"]["pid"] = state["engine"]["pid"] = os.getpid()
    path.write_text(json.dumps(state))
    assert phases(native)["llamacpp"] == "crashed"
    assert native.serve("down") == (0, "nothing was running\n")
    assert not path.exists()


def test_logs_shows_the_end_of_a_parts_log(native: Stack) -> None:
    assert native.serve("logs")[0] == 1
    assert native.serve("up", "--no-vllm")[0] == 0
    code, output = native.serve("logs", "llamacpp", "-n", "1")
    assert code == 0
    assert "llamacpp is ready" in output
    assert native.serve("logs", "nope")[0] == 2
    assert "==> " in native.serve("logs")[1]


def test_a_key_of_the_environment_is_used(native: Stack) -> None:
    code, output = native.serve("up", "--no-vllm", TOOLSMITH_API_KEY="mine")
    assert code == 0
    assert "$TOOLSMITH_API_KEY" in output
    assert (native.cache / "run" / "api_key").read_text() == "mine\n"


def test_only_one_up_at_a_time(native: Stack) -> None:
    first = native.start("up", FAKE_MUTE="1")
    eventually(lambda: answers(f"{native.url('llamacpp')}/metrics"), "an engine runs")
    code, output = native.serve("up")
    assert code == 1
    assert "another `serve up`" in output
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130


def test_no_release_is_a_clear_error(native: Stack, tmp_path: Path) -> None:
    code, output = native.serve("up", "--store", str(tmp_path / "empty"))
    assert code == 1
    assert "no channel 'stable'" in output
