"""Processes are known by more than their number, and end with all that they started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from serve.errors import ServeError
from serve.process import Identity, check_port, idle_cores
from serve.state import PartState, read_state, remove_state, write_state
from tests.native_stack import children, eventually

WITH_CHILD = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"])
time.sleep(600)
"""


def test_a_process_is_itself() -> None:
    identity = Identity.of(os.getpid())
    assert identity.alive()
    assert os.getpid() not in identity.model_copy(update={"started": 1.0}).session()


def test_a_recycled_id_is_not_the_process() -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as other:
        recycled = Identity(pid=other.pid, started=Identity.of(other.pid).started - 60)
        assert not recycled.alive()
        recycled.end_session(0)
        assert other.poll() is None
        Identity.of(other.pid).end_session(5)
        assert other.wait(5) == -15


def test_ending_a_session_ends_what_outlived_its_leader() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WITH_CHILD], start_new_session=True, stdout=subprocess.PIPE
    ) as leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"up\n"
        identity = Identity.of(leader.pid)
        leader.kill()
        leader.wait()
        assert len(children(leader.pid)) == 1
        identity.end_session(0)
        eventually(lambda: not children(leader.pid), "the child is gone", 5)


def test_a_gone_process_is_no_error() -> None:
    with subprocess.Popen(["true"]) as process:
        identity = Identity.of(process.pid)
    assert not identity.alive()
    identity.end_session(1)
    with pytest.raises(psutil.NoSuchProcess):
        Identity.of(2**22 + 1)


def test_a_taken_port_is_named_with_its_holder_and_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ServeError, match=f"port {port} .* process {os.getpid()} .*X_PORT"):
            check_port("127.0.0.1", port, "X_PORT")
    check_port("127.0.0.1", port, "X_PORT")


def test_an_address_of_another_machine_is_no_taken_port() -> None:
    with pytest.raises(ServeError, match="Cannot assign requested address"):
        check_port("192.0.2.77", 4000, "X_PORT")


def test_idle_cores_is_at_least_one_and_at_most_all() -> None:
    assert 1 <= idle_cores(0.05) <= (os.cpu_count() or 1)


def test_state_survives_and_damage_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "run" / "llamacpp.json"
    assert read_state(path) is None
    state = PartState(
        part="llamacpp",
        phase="ready",
        launcher=Identity.of(os.getpid()),
        command=("python", "-m", "serve"),
        url="http://127.0.0.1:8080",
        release="toy-20261101-00000000",
    )
    write_state(path, state)
    assert read_state(path) == state
    assert state.running()
    assert [file.name for file in path.parent.iterdir()] == ["llamacpp.json"]
    path.write_text('{"part": ')
    assert read_state(path) is None
    remove_state(path)
    remove_state(path)
