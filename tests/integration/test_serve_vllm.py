"""The tiny release on real vLLM on the CPU."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Thread

import httpx
import pytest
from transformers import AutoTokenizer

from release.parity.prompts import fixed_set
from release.store import ReleaseStore
from serve.state import read_state
from tests.native_stack import children, eventually, stack
from tests.release_fixture import ANSWERS
from tests.served_answers import (
    check_answer,
    check_tool_choice,
    client,
    tokens_of_long_answer,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def check_prompt_tokens(url: str, store: Path) -> None:
    """The fixed set has the token ids of training, with one BOS where the model has one."""
    releases = ReleaseStore(store)
    merged = releases.path(releases.channel().release) / "merged"
    tokenizer = AutoTokenizer.from_pretrained(merged)
    differing = []
    for prompt in fixed_set():
        for ask in (True, False):
            body = {
                "model": "toolsmith",
                "messages": prompt.messages,
                "add_generation_prompt": ask,
                **({"tools": prompt.tools} if prompt.tools else {}),
            }
            response = httpx.post(f"{url}/tokenize", json=body, trust_env=False, timeout=60)
            trained = tokenizer.apply_chat_template(
                prompt.for_template(), tools=prompt.tools or None, add_generation_prompt=ask
            )["input_ids"]
            assert tokenizer.bos_token_id is None or trained.count(tokenizer.bos_token_id) == 1
            if response.json().get("tokens") != trained:
                differing.append((prompt.name, ask, response.text[:200]))
    assert not differing


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
        check_prompt_tokens(made.url("vllm"), tiny_nemotron_store)


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
        check_prompt_tokens(url, tiny_store)

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
