"""The tiny release on real vLLM on the CPU: one start for all that is asked of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from serve.state import read_state
from tests.native_stack import Stack, children, eventually, stack
from tests.release_fixture import ANSWERS, Answer
from tests.served_answers import check_answer, client, tokens_of_long_answer

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Stack]:
    made = stack(tmp_path_factory.mktemp("vllm"), tiny_store, TOOLSMITH_VLLM_DEVICE="cpu")
    state = made.cache / "state.json"
    with made.launcher("vllm", "--state-file", str(state)) as process:
        made.wait_ready(process, 500)
        yield made


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.user)
def test_answers_as_it_was_trained(engine: Stack, answer: Answer, stream: bool) -> None:
    check_answer(engine.url("vllm"), answer, stream)


def test_serves_both_names(engine: Stack, tiny_store: Path) -> None:
    names = [model.id for model in client(engine.url("vllm")).models.list()]
    [release] = [path.name for path in (tiny_store / "releases").iterdir()]
    assert names == ["toolsmith", release]


def test_a_stream_running_at_sigterm_completes_and_no_process_is_left(
    tmp_path: Path, tiny_store: Path
) -> None:
    made = stack(tmp_path, tiny_store, TOOLSMITH_VLLM_DEVICE="cpu")
    state_file = made.cache / "state.json"
    with made.launcher("vllm", "--state-file", str(state_file)) as process:
        made.wait_ready(process, 500)
        state = read_state(state_file)
        assert state is not None
        assert state.engine is not None
        assert len(children(state.engine.pid)) > 1
        tokens: list[int] = []
        begun: list[str] = []
        asking = Thread(
            target=lambda: tokens.append(tokens_of_long_answer(made.url("vllm"), 600, begun.append))
        )
        asking.start()
        eventually(lambda: bool(begun), "the stream begins")
        process.send_signal(signal.SIGTERM)
        asking.join(120)
        assert tokens == [600]
        assert process.wait(60) == 0
        assert not children(state.engine.pid)
