"""The launcher, before a server that does as the test says."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import httpx
import pytest

from release.store import ReleaseStore
from serve.engine import url_of
from serve.state import read_state
from tests.native_stack import Stack, answers, children, eventually, fake_environment, stack
from tests.release_bundle import sealed


@pytest.fixture
def fake(tmp_path: Path) -> Stack:
    store = ReleaseStore(tmp_path / "models")
    store.set_channel("stable", sealed(store).id)
    return stack(tmp_path, tmp_path / "models", **fake_environment())


@pytest.mark.parametrize("engine", ["llamacpp", "vllm"])
def test_serves_until_sigterm(fake: Stack, engine: str) -> None:
    with fake.launcher(engine) as process:
        fake.wait_ready(process)
        assert answers(f"{fake.url(engine)}/metrics")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not answers(f"{fake.url(engine)}/metrics")


@pytest.mark.parametrize("engine", ["llamacpp", "vllm"])
def test_a_running_request_is_finished_after_sigterm(
    fake: Stack, tmp_path: Path, engine: str
) -> None:
    hold = tmp_path / "go"
    with fake.launcher(engine, FAKE_HOLD=str(hold)) as process:
        fake.wait_ready(process)
        asking, statuses = _start_asking(fake, engine)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: "waiting for 1 running requests" in fake.log(), "it drains")
        assert process.poll() is None
        hold.touch()
        assert process.wait(30) == 0
        asking.join(30)
        assert statuses == [200]


def test_the_drain_ends_at_its_deadline(fake: Stack, tmp_path: Path) -> None:
    hold = str(tmp_path / "never")
    with fake.launcher("llamacpp", "--drain-seconds", "1", FAKE_HOLD=hold) as process:
        fake.wait_ready(process)
        _start_asking(fake, "llamacpp")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "cut 1 requests off" in fake.log()


def test_a_second_signal_cuts_the_drain_short(fake: Stack, tmp_path: Path) -> None:
    with fake.launcher("llamacpp", FAKE_HOLD=str(tmp_path / "never")) as process:
        fake.wait_ready(process)
        _start_asking(fake, "llamacpp")
        process.send_signal(signal.SIGTERM)
        eventually(lambda: "waiting for 1 running requests" in fake.log(), "it drains")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_killed_engine_is_started_again(fake: Stack) -> None:
    state = fake.cache / "state.json"
    with fake.launcher("llamacpp", "--state-file", str(state)) as process:
        fake.wait_ready(process)
        engine = _engine(state)
        _kill(engine)
        eventually(lambda: fake.log().count("is ready on") == 2, "it is ready again")
        assert _engine(state) != engine
        assert "was killed by signal 9" in fake.log()
    assert not state.exists()


def test_an_engine_dies_with_its_killed_launcher(fake: Stack) -> None:
    state = fake.cache / "state.json"
    with fake.launcher("llamacpp", "--state-file", str(state)) as process:
        fake.wait_ready(process)
        engine = _engine(state)
        process.kill()
        process.wait()
        eventually(lambda: not children(engine), "the engine is gone")


def test_an_engine_that_never_starts_is_not_tried_again(fake: Stack) -> None:
    code, output = fake.serve("llamacpp", FAKE_DIE="no such quantization")
    assert code == 1
    assert "llamacpp did not start: it ended with exit code 1" in output
    assert output.count("no such quantization") == 2  # As it came, and in the error.


def test_an_engine_that_never_gets_ready_is_stopped(fake: Stack) -> None:
    code, output = fake.serve("llamacpp", "--start-seconds", "1", FAKE_MUTE="1")
    assert code == 1
    assert "was not ready after 1 s" in output
    assert "503" in output
    assert "TOOLSMITH_START_SECONDS" in output
    assert not answers(f"{fake.url('llamacpp')}/metrics")


def test_an_engine_with_other_stop_tokens_is_refused(fake: Stack) -> None:
    code, output = fake.serve("llamacpp", FAKE_EOS="<|im_start|>")
    assert code == 1
    assert "stops at '<|im_start|>', the release at <|im_end|>" in output


def test_a_taken_port_is_said_before_the_engine_starts(fake: Stack) -> None:
    with fake.launcher("llamacpp") as process:
        fake.wait_ready(process)
        code, output = fake.serve("llamacpp")
        assert code == 1
        assert "TOOLSMITH_LLAMACPP_PORT" in output
        assert "starting" not in output


def test_dry_run_prints_the_command_and_no_key(fake: Stack) -> None:
    code, output = fake.serve("vllm", "--dry-run", TOOLSMITH_ENGINE_KEY="secret")
    assert code == 0
    assert "--tool-call-parser hermes" in output
    assert "VLLM_API_KEY='***'" in output
    assert "secret" not in output


def _start_asking(fake: Stack, engine: str) -> tuple[threading.Thread, list[int]]:
    """A request that runs already when this returns, and the list that its status will be in."""
    statuses: list[int] = []
    asking = threading.Thread(target=lambda: statuses.append(_ask(fake.port(engine))), daemon=True)
    asking.start()
    url = f"{fake.url(engine)}/metrics"
    eventually(lambda: httpx.get(url, trust_env=False).text.endswith(" 1\n"), "it is asked")
    return asking, statuses


def _ask(port: int) -> int:
    url = f"{url_of('127.0.0.1', port)}/v1/chat/completions"
    body = {"model": "toolsmith", "messages": [], "stream": True}
    try:
        return httpx.post(url, json=body, timeout=60, trust_env=False).status_code
    except httpx.HTTPError:
        return 0


def _engine(state: Path) -> int:

    found = read_state(state)
    assert found is not None
    assert found.engine is not None
    return found.engine.pid


def _kill(pid: int) -> None:

    os.kill(pid, signal.SIGKILL)
