"""The tiny release on real vLLM on the CPU."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Thread

import pytest

from release.store import ReleaseStore
from serve.state import read_state
from tests.native_stack import children, eventually, stack
from tests.release_fixture import ANSWERS
from tests.served_answers import (
    check_answer,
    check_prompt_tokens,
    check_tool_choice,
    client,
    tokens_of_long_answer,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def test_serves_the_nemotron_format_through_the_plugin(
    tmp_path: Path, tiny_nemotron_store: Path
) -> None:
    """One test, because vLLM takes a minute to start."""
    made = stack(tmp_path, tiny_nemotron_store, TOOLSMITH_VLLM_DEVICE="cpu")
    with made.launcher("vllm") as process:
        made.wait_ready(process, 500)
        for answer in ANSWERS:
            for stream in (False, True):
                check_answer(made.url("vllm"), answer, stream)
        check_tool_choice(made.url("vllm"))
        check_prompt_tokens(made.url("vllm"), tiny_nemotron_store, "vllm")


def test_serves_the_release_drains_and_leaves_no_process(tmp_path: Path, tiny_store: Path) -> None:
    """One test, because vLLM takes a minute to start."""
    made = stack(tmp_path, tiny_store, TOOLSMITH_VLLM_DEVICE="cpu")
    url = made.url("vllm")
    state_file = made.cache / "state.json"
    with made.launcher("vllm", "--state-file", str(state_file)) as process:
        made.wait_ready(process, 500)
        release = ReleaseStore(tiny_store).channel().release
        assert [model.id for model in client(url).models.list()] == ["toolsmith", release]
        for answer in ANSWERS:
            for stream in (False, True):
                check_answer(url, answer, stream)
        check_tool_choice(url)
        check_prompt_tokens(url, tiny_store, "vllm")

        state = read_state(state_file)
        assert state is not None
        assert state.engine is not None
        # The API server, the engine core, the worker.
        assert len(children(state.engine.pid)) > 2
        tokens: list[int] = []
        begun: list[str] = []
        asking = Thread(target=lambda: tokens.append(tokens_of_long_answer(url, 600, begun.append)))
        asking.start()
        eventually(lambda: bool(begun), "the stream begins")
        process.send_signal(signal.SIGTERM)
        asking.join(120)
        assert tokens == [600]
        assert process.wait(60) == 0
        assert not children(state.engine.pid)
