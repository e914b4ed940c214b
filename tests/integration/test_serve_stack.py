"""`serve up` with real llama.cpp and the real gateway."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import openai
import pytest

from tests.native_stack import eventually, stack
from tests.release_fixture import ANSWERS
from tests.served_answers import check_answer, client

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def test_up_answers_through_the_gateway_survives_a_kill_and_goes_down(
    tmp_path: Path, tiny_store: Path
) -> None:
    made = stack(tmp_path, tiny_store, TOOLSMITH_THREADS="1")
    try:
        code, output = made.serve("up", "--no-vllm")
        assert code == 0, output
        url = made.url("gateway")
        key = (made.cache / "run" / "api_key").read_text().strip()
        with pytest.raises(openai.AuthenticationError):
            client(url, "wrong").models.list()
        assert "toolsmith" in [model.id for model in client(url, key).models.list()]
        for answer in ANSWERS:
            check_answer(url, answer, stream=False, key=key)
            check_answer(url, answer, stream=True, key=key)

        os.kill(made.status()["llamacpp"]["engine_pid"], signal.SIGKILL)

        def back() -> bool:
            row = made.status()["llamacpp"]
            return bool(row["phase"] == "ready" and row["restarts"] == 1)

        eventually(back, "the engine was started again")
        code, output = made.serve("up", "--no-vllm")
        assert code == 0
        assert output.startswith("already up, nothing to do")
    finally:
        code, output = made.serve("down")
    assert code == 0, output
    assert {row["phase"] for row in made.status().values()} == {"stopped"}
