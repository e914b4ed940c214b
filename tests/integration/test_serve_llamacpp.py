"""The tiny release on real llama.cpp: answers, tools, limits, drain, restart."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import openai
import pytest

from release.store import ReleaseStore
from serve.state import read_state
from tests.native_stack import Stack, eventually, stack
from tests.release_fixture import ANSWERS, CONTEXT, HELLO, ONE_CALL, Answer
from tests.served_answers import (
    check_answer,
    check_prompt_tokens,
    check_tool_choice,
    client,
    tokens_of_long_answer,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Stack]:
    made = stack(tmp_path_factory.mktemp("llamacpp"), tiny_store, TOOLSMITH_THREADS="1")
    state = made.cache / "state.json"
    with made.launcher("llamacpp", "--state-file", str(state)) as process:
        made.wait_ready(process)
        yield made


@pytest.fixture(scope="module")
def nemotron(
    tmp_path_factory: pytest.TempPathFactory, tiny_nemotron_store: Path
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("llamacpp-nemotron")
    made = stack(folder, tiny_nemotron_store, TOOLSMITH_THREADS="1")
    with made.launcher("llamacpp") as process:
        made.wait_ready(process)
        yield made


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.user)
def test_answers_in_the_nemotron_format(nemotron: Stack, answer: Answer, stream: bool) -> None:
    check_answer(nemotron.url("llamacpp"), answer, stream)


def test_tool_choice_is_obeyed_in_the_nemotron_format(nemotron: Stack) -> None:
    check_tool_choice(nemotron.url("llamacpp"), named=False)


def test_the_fixed_prompts_have_the_tokens_of_training(
    engine: Stack, tiny_store: Path, nemotron: Stack, tiny_nemotron_store: Path
) -> None:
    check_prompt_tokens(engine.url("llamacpp"), tiny_store, "llamacpp")
    check_prompt_tokens(nemotron.url("llamacpp"), tiny_nemotron_store, "llamacpp")


def test_tool_choice_is_obeyed(engine: Stack) -> None:
    check_tool_choice(engine.url("llamacpp"), named=False)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.user)
def test_answers_as_it_was_trained(engine: Stack, answer: Answer, stream: bool) -> None:
    check_answer(engine.url("llamacpp"), answer, stream)


def test_serves_both_names_and_the_context_of_the_manifest(engine: Stack, tiny_store: Path) -> None:
    release = ReleaseStore(tiny_store).channel().release
    [model] = httpx.get(f"{engine.url('llamacpp')}/v1/models", trust_env=False).json()["data"]
    assert {model["id"], *model["aliases"]} == {"toolsmith", release}
    assert model["meta"]["n_ctx"] == CONTEXT
    with pytest.raises(openai.BadRequestError, match="context"):
        client(engine.url("llamacpp")).chat.completions.create(
            model="toolsmith", messages=[{"role": "user", "content": "é" * CONTEXT * 2}]
        )


def test_a_required_tool_is_called(engine: Stack) -> None:
    response = client(engine.url("llamacpp")).chat.completions.create(
        model="toolsmith",
        messages=[{"role": "user", "content": ONE_CALL.user}],
        tools=list(ONE_CALL.tools),  # type: ignore[arg-type]
        tool_choice="required",
        temperature=0,
        max_tokens=200,
    )
    calls = response.choices[0].message.tool_calls
    assert calls
    assert [call.function.name for call in calls if call.type == "function"] == ["get_weather"]


def test_web_pages_of_others_get_no_access(engine: Stack) -> None:
    origin = {"Origin": "http://evil.example"}
    url = f"{engine.url('llamacpp')}/v1/models"
    answer = httpx.get(url, headers=origin, trust_env=False)
    assert "access-control-allow-origin" not in answer.headers


def test_a_stream_running_at_sigterm_completes(tmp_path: Path, tiny_store: Path) -> None:
    made = stack(tmp_path, tiny_store, TOOLSMITH_THREADS="1")
    with made.launcher("llamacpp") as process:
        made.wait_ready(process)
        tokens: list[int] = []
        begun: list[str] = []
        asking = Thread(
            target=lambda: tokens.append(
                tokens_of_long_answer(made.url("llamacpp"), 4000, begun.append)
            )
        )
        asking.start()
        eventually(lambda: bool(begun), "the stream begins")
        process.send_signal(signal.SIGTERM)
        asking.join(120)
        assert tokens == [4000]
        assert process.wait(30) == 0
        assert "waiting for 1 running requests" in made.log()


def test_a_killed_engine_comes_back(engine: Stack) -> None:
    def pid() -> int:
        state = read_state(engine.cache / "state.json")
        return state.engine.pid if state and state.engine and state.phase == "ready" else 0

    before = pid()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: pid() not in (0, before), "another engine is ready")
    check_answer(engine.url("llamacpp"), HELLO, stream=False)


def test_a_damaged_gguf_is_refused_with_the_engines_words(tmp_path: Path, tiny_store: Path) -> None:
    store = tmp_path / "models"
    shutil.copytree(tiny_store, store)
    [gguf] = store.glob("releases/*/gguf/*.gguf")
    os.truncate(gguf, gguf.stat().st_size // 2)
    code, output = stack(tmp_path, store).serve("llamacpp")
    assert code == 1
    assert "llamacpp did not start" in output
    assert gguf.name in output


def test_an_engine_key_is_asked_for(tmp_path: Path, tiny_store: Path) -> None:
    made = stack(tmp_path, tiny_store, TOOLSMITH_ENGINE_KEY="k", TOOLSMITH_THREADS="1")
    with made.launcher("llamacpp") as process:
        made.wait_ready(process)
        with pytest.raises(openai.AuthenticationError):
            client(made.url("llamacpp"), "wrong").models.list()
        assert client(made.url("llamacpp"), "k").models.list().data
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "cut" not in json.dumps(made.log())
