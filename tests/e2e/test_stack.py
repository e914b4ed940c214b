"""The whole stack on a release trained for it: real rows to real engines to the real client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from release.store import ReleaseStore
from tests import native_stack
from tests.e2e.trained import CACHE, ROOT, STORE, Trained, environment, finetune, held_out
from tests.native_stack import Stack, eventually
from train.evaluate import Case, same_calls
from train.generate import Request, load_for_inference, stream
from train.messages import Message, Tool, ToolCall
from train.toolcalls import parse_hermes

pytestmark = [pytest.mark.engine, pytest.mark.stack, pytest.mark.timeout(1800)]

GLAIVE = Path(
    os.environ.get("TOOLSMITH_GLAIVE_SAMPLE", ROOT.parent / "shared/data/glaive_v2_sample.jsonl")
)
QUESTIONS = 12  # held-out calls that are asked of every engine


@pytest.fixture(scope="module")
def trained() -> Trained:
    """The embedded profile, trained as `make demo` does it."""
    summary = finetune("--reuse")
    return Trained(summary["release"], summary)


@pytest.fixture(scope="module")
def stack(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """llama.cpp, vLLM and the gateway, up on free ports."""
    ReleaseStore(STORE).promote(trained.release, "stable")
    made = native_stack.stack(tmp_path_factory.mktemp("stack"), STORE)
    try:
        code, output = made.serve("up")
        assert code == 0, output
        yield made
    finally:
        code, output = made.serve("down")
    assert code == 0, output


@pytest.fixture(scope="module")
def client(stack: Stack) -> openai.OpenAI:
    """Any OpenAI client: only the base URL and the key are ours."""
    key = (stack.cache / "run" / "api_key").read_text().strip()
    return openai.OpenAI(base_url=f"{stack.url('gateway')}/v1", api_key=key, max_retries=0)


def request(case: Case) -> dict[str, Any]:
    """The case as an OpenAI client sends it."""
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []
    for number, message in enumerate(case.request.messages):
        ids = [f"call_{number}_{i}" for i in range(len(message.tool_calls))]
        entry = message.openai(ids)
        if message.role == "tool":
            entry["tool_call_id"] = waiting.pop(0)
        waiting += ids
        messages.append(entry)
    return {"messages": messages, "tools": [tool.openai() for tool in case.request.tools]}


def calls_of(message: Any) -> list[ToolCall]:
    return [
        ToolCall(name=call.function.name, arguments=json.loads(call.function.arguments))
        for call in message.tool_calls or []
    ]


def test_the_tuned_model_calls_right_where_the_base_does_not(trained: Trained) -> None:
    scores = {score["set"]: score for score in trained.summary["scores"]}
    # What a run of these few minutes is sure to reach; bench/RESULTS.md has the measured values.
    assert scores["seen"]["tuned"] >= 0.35
    assert scores["unseen"]["tuned"] >= 0.3
    assert max(score["base"] for score in scores.values()) <= 0.1


def test_adapter_llamacpp_and_vllm_make_the_same_calls(
    trained: Trained, client: openai.OpenAI
) -> None:
    model, tokenizer = load_for_inference(trained.folder / "adapter", CACHE)
    cases = held_out("seen", QUESTIONS) + held_out("unseen", QUESTIONS)
    differing = []
    calling = 0
    for case in cases:
        text = stream(model, tokenizer, case.request, 200, lambda piece: None)
        adapter = parse_hermes(text).calls
        calling += bool(adapter)
        served = {
            name: calls_of(
                client.chat.completions.create(
                    model=f"toolsmith@{name}", temperature=0, max_tokens=200, **request(case)
                )
                .choices[0]
                .message
            )
            for name in ("gpu", "cpu")
        }
        if not all(same_calls(calls, adapter) for calls in served.values()):
            differing.append((adapter, served))
    assert calling >= 0.8 * len(cases)
    # Near-ties fall otherwise in 8 bits, and a run of minutes leaves many: 21 of 24 were equal.
    assert len(differing) <= 0.2 * len(cases), differing


def test_a_plain_question_gets_the_same_right_call_from_all_three(
    trained: Trained, client: openai.OpenAI
) -> None:
    tool = Tool(
        name="get_air_quality",
        description="Get the air quality index of a city",
        parameters={
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    )
    asked = Message(role="user", content="How clean is the air in Chicago?")
    model, tokenizer = load_for_inference(trained.folder / "adapter", CACHE)
    text = stream(model, tokenizer, Request((asked,), (tool,)), 100, lambda piece: None)
    calls = [parse_hermes(text).calls]
    for name in ("gpu", "cpu"):
        answer = client.chat.completions.create(
            model=f"toolsmith@{name}",
            temperature=0,
            messages=[{"role": "user", "content": asked.content}],
            tools=[tool.openai()],  # type: ignore[list-item]
        )
        calls.append(tuple(calls_of(answer.choices[0].message)))
    assert calls == [(ToolCall(name="get_air_quality", arguments={"city": "Chicago"}),)] * 3


def test_a_streamed_call_is_the_plain_call(client: openai.OpenAI) -> None:
    for name in ("gpu", "cpu"):
        for case in held_out("seen", 4):
            asked = {"model": f"toolsmith@{name}", "temperature": 0, **request(case)}
            plain = calls_of(client.chat.completions.create(**asked).choices[0].message)
            with client.chat.completions.stream(**asked) as events:
                streamed = calls_of(events.get_final_completion().choices[0].message)
            assert plain
            assert same_calls(plain, streamed)


def test_chat_models_and_identity(client: openai.OpenAI, trained: Trained) -> None:
    names = {model.id for model in client.models.list()}
    assert {"toolsmith", "toolsmith@gpu", "toolsmith@cpu", trained.release} <= names
    raw = client.chat.completions.with_raw_response.create(
        model="toolsmith",
        messages=[{"role": "user", "content": "What is the capital of Japan?"}],
    )
    assert raw.parse().choices[0].message.content
    assert raw.headers["x-toolsmith-engine"] == "gpu"
    assert raw.headers["x-toolsmith-release"] == trained.release
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(
            model="toolsmith",
            messages=[{"role": "user", "content": "What is the capital of Japan?"}],
            stream=True,
        )
        if chunk.choices
    ]
    assert "".join(pieces) == raw.parse().choices[0].message.content


def test_a_killed_engine_costs_no_request_and_comes_back(
    stack: Stack, client: openai.OpenAI
) -> None:
    case = held_out("seen", 1)[0]

    def answered_by() -> str:
        raw = client.chat.completions.with_raw_response.create(
            model="toolsmith", temperature=0, **request(case)
        )
        assert raw.parse().choices
        return raw.headers["x-toolsmith-engine"]

    assert answered_by() == "gpu"
    os.kill(stack.status()["vllm"]["engine_pid"], signal.SIGKILL)
    # Each of these is answered: `answered_by` fails on an error.
    assert "cpu" in [answered_by() for _ in range(5)]
    eventually(lambda: answered_by() == "gpu", "vLLM was started again", 300)


def test_infer_prints_the_call_as_json(trained: Trained, tmp_path: Path) -> None:
    case = held_out("seen", 1)[0]
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([tool.openai() for tool in case.request.tools]))
    assert len(case.request.messages) == 1
    answers = []
    for part in ("adapter", "merged"):
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from train.cli import infer; infer()"),
                *(case.request.messages[0].content, "--tools", str(tools), "--json"),
                *("--model", trained.release, "--part", part),
            ],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout)["tool_calls"][0]["function"])
    assert answers[0] == answers[1]
    assert answers[0]["name"] in {tool.name for tool in case.request.tools}


def test_the_demo_runs_from_end_to_end(trained: Trained, tmp_path: Path) -> None:
    made = native_stack.stack(tmp_path, STORE)
    for shared in ("base", "evaluations"):
        (made.cache / shared).symlink_to(CACHE / shared)
    done = subprocess.run(
        [sys.executable, "demo.py", "--no-vllm"],
        cwd=ROOT,
        env={**environment(COLUMNS="160"), **made.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert trained.release in done.stdout
    assert 'get_air_quality({"city": "Chicago"})' in done.stdout
    assert {row["phase"] for row in made.status().values()} == {"stopped"}


def test_real_rows_train_release_and_serve_the_same_way(tmp_path: Path) -> None:
    if not GLAIVE.is_file():
        pytest.skip("needs real Glaive rows, which are on a model hub: set TOOLSMITH_GLAIVE_SAMPLE")
    summary = finetune(
        *("--data", str(GLAIVE), "--name", "glaive-test", "--reuse"),
        *("--max-samples", "12", "--max-steps", "4"),
    )
    ReleaseStore(STORE).promote(summary["release"], "glaive")
    made = native_stack.stack(tmp_path, STORE, TOOLSMITH_CHANNEL="glaive")
    try:
        code, output = made.serve("up", "--no-vllm")
        assert code == 0, output
        key = (made.cache / "run" / "api_key").read_text().strip()
        answer = openai.OpenAI(
            base_url=f"{made.url('gateway')}/v1", api_key=key
        ).chat.completions.create(
            model="toolsmith", messages=[{"role": "user", "content": "Hi!"}], max_tokens=16
        )
        assert answer.choices[0].message.content
    finally:
        code, output = made.serve("down")
    assert code == 0, output
