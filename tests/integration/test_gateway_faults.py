"""The gateway for real before two fake engines: what clients see, and what faults do to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.gateway_stack import (
    KEY,
    RELEASE,
    FakeEngine,
    Gateway,
    running_gateway,
    wait_for,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "strict": {"type": "boolean"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
# What OpenAI's and vLLM's own fields a client may send; each must reach the engine as it is.
FIELDS: dict[str, Any] = {
    "frequency_penalty": 0.1,
    "guided_json": {"type": "object", "additionalProperties": False},
    "logit_bias": {"5": 1},
    "logprobs": True,
    "max_completion_tokens": 9,
    "max_tokens": 9,
    "min_p": 0.1,
    "n": 1,
    "parallel_tool_calls": True,
    "presence_penalty": 0.1,
    "repetition_penalty": 1.1,
    "response_format": {"type": "json_object"},
    "seed": 7,
    "stop": ["a"],
    "temperature": 0,
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    "tools": TOOLS,
    "top_k": 5,
    "top_logprobs": 2,
    "top_p": 0.5,
}
FIRST_BYTE_S = 2.0


@pytest.fixture(scope="module")
def gpu() -> Iterator[FakeEngine]:
    engine = FakeEngine("gpu")
    engine.start()
    yield engine
    engine.kill()


@pytest.fixture(scope="module")
def cpu() -> Iterator[FakeEngine]:
    engine = FakeEngine("cpu")
    engine.start()
    yield engine
    engine.kill()


@pytest.fixture(scope="module")
def stack(
    gpu: FakeEngine, cpu: FakeEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    options = ["--engine", f"gpu={gpu.url}", "--engine", f"cpu={cpu.url}"]
    options += ["--first-byte-timeout", str(FIRST_BYTE_S), "--request-timeout", "20"]
    with running_gateway(tmp_path_factory.mktemp("gateway"), *options) as gateway:
        yield gateway
    assert gateway.process.returncode == 0, "SIGTERM must end in a clean exit"


@pytest.fixture
def gateway(stack: Gateway, gpu: FakeEngine, cpu: FakeEngine) -> Gateway:
    """The shared gateway, with both engines whole and in use before each test."""
    for engine in (gpu, cpu):
        if engine.process is None:
            engine.start()
        engine.fault("ok")
    stack.wait_for_states(gpu="up", cpu="up")
    return stack


def chat(gateway: Gateway, model: str = "toolsmith", **more: Any) -> Any:
    """One plain chat request's raw response (headers and body)."""
    completions = gateway.client().chat.completions.with_raw_response
    return completions.create(model=model, messages=HELLO, **more)


def stream_text(gateway: Gateway, model: str = "toolsmith", **more: Any) -> str:
    """The text of one streamed answer."""
    stream: Any = gateway.client().chat.completions.create(
        model=model, messages=HELLO, stream=True, **more
    )
    return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)


def post(gateway: Gateway, body: Any, key: str = KEY) -> httpx.Response:
    """One chat request as raw JSON."""
    headers = {"authorization": f"Bearer {key}"}
    url = f"{gateway.url}/v1/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=60)


def openai_error(response: httpx.Response) -> dict[str, Any]:
    """The error object, after checking that it has OpenAI's shape and tells nothing inner."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    for inner in ("Traceback", "litellm", "Hosted_vllm", "127.0.0.1", "10.0.0.7", "#gpu"):
        assert inner.lower() not in response.text.lower()
    return dict(error)


def test_plain_answer_names_engine_and_release(gateway: Gateway) -> None:
    response = chat(gateway)
    assert response.parse().choices[0].message.content == "hello from gpu"
    assert response.parse().model == "toolsmith"
    assert response.headers["x-toolsmith-engine"] == "gpu"
    assert response.headers["x-toolsmith-release"] == RELEASE
    assert response.headers["x-request-id"]


def test_nothing_inner_leaks_into_headers(gateway: Gateway, gpu: FakeEngine) -> None:
    for more in ({}, {"stream": True}):
        headers = post(gateway, {"model": "toolsmith", "messages": HELLO, **more}).headers
        assert not [name for name in headers if name.startswith(("x-litellm", "llm_provider"))]
        assert str(gpu.port) not in str(headers)


@pytest.mark.parametrize(
    ("model", "engine"),
    [("toolsmith", "gpu"), ("toolsmith@gpu", "gpu"), ("toolsmith@cpu", "cpu"), (RELEASE, "gpu")],
)
def test_each_name_reaches_its_engine(gateway: Gateway, model: str, engine: str) -> None:
    response = chat(gateway, model)
    assert response.headers["x-toolsmith-engine"] == engine
    assert response.parse().model == model
    assert stream_text(gateway, model).strip() == f"hello from {engine}"


def test_models_lists_all_names(gateway: Gateway) -> None:
    listed = {model.id for model in gateway.client().models.list()}
    assert listed == {"toolsmith", "toolsmith@gpu", "toolsmith@cpu", RELEASE}


def test_stream_ends_with_usage_when_asked(gateway: Gateway) -> None:
    stream = gateway.client().chat.completions.create(
        model="toolsmith", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert stream.response.headers["x-toolsmith-engine"] == "gpu"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert [reason for reason in reasons if reason] == ["stop"]


def test_every_field_reaches_the_engine_as_it_is(gateway: Gateway, gpu: FakeEngine) -> None:
    body = {"model": "toolsmith", "messages": HELLO, "stream": False, **FIELDS}
    assert post(gateway, body).status_code == 200
    assert gpu.seen()[-1]["body"] == body


def test_tool_call_and_its_result_pass_unchanged(gateway: Gateway, gpu: FakeEngine) -> None:
    client = gateway.client()
    first = client.chat.completions.create(model="toolsmith", messages=HELLO, tools=TOOLS)
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls
    call: Any = message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert call.function.arguments == '{"city": "Zürich", "unit": "celsius"}'

    result = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 4}'}
    turns: Any = [*HELLO, message.model_dump(exclude_none=True), result]
    answer = client.chat.completions.create(model="toolsmith", messages=turns, tools=TOOLS)
    assert answer.choices[0].message.content == 'The tool said {"temperature": 4}'
    sent = gpu.seen()[-1]["body"]
    assert sent["tools"] == TOOLS
    assert sent["messages"][2] == result
    assert sent["messages"][1]["tool_calls"][0]["function"] == call.function.model_dump()


def test_streamed_tool_call_is_whole(gateway: Gateway) -> None:
    stream = gateway.client().chat.completions.create(
        model="toolsmith", messages=HELLO, tools=TOOLS, stream=True
    )
    names, arguments, reasons = "", "", []
    for chunk in stream:
        reasons.append(chunk.choices[0].finish_reason)
        for call in chunk.choices[0].delta.tool_calls or ():
            assert call.function is not None
            names += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (names, arguments) == ("get_weather", '{"city": "Zürich", "unit": "celsius"}')
    assert reasons[-1] == "tool_calls"


def test_text_completions_pass(gateway: Gateway) -> None:
    answer = gateway.client().completions.create(model="toolsmith", prompt="hello")
    assert answer.choices[0].text == "hello from gpu"


@pytest.mark.parametrize("key", ["wrong", "sk-wrong", f"{KEY}x"])
def test_wrong_key_is_401(gateway: Gateway, gpu: FakeEngine, key: str) -> None:
    before = len(gpu.seen())
    with pytest.raises(openai.AuthenticationError) as caught:
        gateway.client(key).chat.completions.create(model="toolsmith", messages=HELLO)
    assert caught.value.status_code == 401
    assert caught.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        list(gateway.client(key).models.list())
    assert len(gpu.seen()) == before


def test_missing_key_is_401_on_every_path(gateway: Gateway) -> None:
    for path in ("/v1/models", "/v1/chat/completions", "/metrics", "/nowhere"):
        response = httpx.get(f"{gateway.url}{path}")
        assert response.status_code == 401
        assert openai_error(response)["code"] == "invalid_api_key"


def test_clients_key_does_not_reach_the_engine(gateway: Gateway, gpu: FakeEngine) -> None:
    chat(gateway)
    assert KEY not in str(gpu.seen()[-1])


def test_unknown_model_is_404(gateway: Gateway) -> None:
    response = post(gateway, {"model": "gpt-9", "messages": HELLO})
    assert response.status_code == 404
    assert openai_error(response)["code"] == "model_not_found"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/ui",
        "/redoc",
        "/openapi.json",
        "/routes",
        "/test",
        "/metrics",
        "/key/info",
        "/health",
        "/model/info",
        "/config/yaml",
        "/v1/embeddings",
        "/v1/models/",
        "/docs",
    ],
)
def test_other_routes_are_closed(gateway: Gateway, path: str) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    for method in ("GET", "POST"):
        response = httpx.request(method, f"{gateway.url}{path}", headers=headers)
        assert response.status_code in (404, 405)
        openai_error(response)


def test_a_clients_mistake_takes_no_engine_out(gateway: Gateway, gpu: FakeEngine) -> None:
    for _ in range(20):
        response = post(gateway, {"model": "toolsmith", "stream": "banana", "messages": HELLO})
        assert response.status_code == 400
        openai_error(response)
        assert chat(gateway).headers["x-toolsmith-engine"] == "gpu"
    assert gateway.states() == {"gpu": "up", "cpu": "up"}


def test_a_refused_request_is_not_sent_to_the_other_engine(
    gateway: Gateway, gpu: FakeEngine, cpu: FakeEngine
) -> None:
    gpu.fault("refuse")
    before = len(cpu.seen())
    response = post(gateway, {"model": "toolsmith", "messages": HELLO})
    assert response.status_code == 400
    assert openai_error(response)["message"].startswith("bad request at")
    assert len(cpu.seen()) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b'{"model": "toolsmith"}'])
def test_a_broken_body_is_400(gateway: Gateway, body: bytes) -> None:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    url = f"{gateway.url}/v1/chat/completions"
    response = httpx.post(url, content=body, headers=headers)
    assert response.status_code == 400
    openai_error(response)


def test_a_body_cannot_steer_the_gateway(gateway: Gateway, gpu: FakeEngine) -> None:
    tricks = {
        "api_base": "http://127.0.0.1:9/v1",
        "timeout": 0.00001,
        "stream_timeout": 0.00001,
        "mock_response": "mocked",
        "extra_body": {"model": "other", "stream": True},
        "fallbacks": ["toolsmith@cpu"],
        "metadata": {
            "previous_models": [
                {"deployment_id": "toolsmith#gpu", "exception_type": "Timeout"},
            ]
        },
    }
    for name, value in tricks.items():
        response = post(gateway, {"model": "toolsmith", "messages": HELLO, name: value})
        assert response.status_code == 200, name
        assert response.json()["choices"][0]["message"]["content"] == "hello from gpu"
    assert gateway.states() == {"gpu": "up", "cpu": "up"}


@pytest.mark.parametrize("mode", ["error", "busy", "hang"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_faulty_gpu_engine_costs_no_request(
    gateway: Gateway, gpu: FakeEngine, mode: str, streamed: bool
) -> None:
    if mode == "hang" and not streamed:
        # A plain request to a hanging engine waits --request-timeout; a stream finds it out first.
        gpu.fault(mode)
        assert stream_text(gateway).strip() == "hello from cpu"
    gpu.fault(mode)
    for _ in range(10):
        if streamed:
            assert stream_text(gateway).strip() == "hello from cpu"
        else:
            assert chat(gateway).parse().choices[0].message.content == "hello from cpu"
    gpu.fault("ok")
    wait_for(lambda: chat(gateway).headers["x-toolsmith-engine"] == "gpu", "back on gpu", 5)


def test_a_failed_over_stream_names_the_engine_that_answered(
    gateway: Gateway, gpu: FakeEngine
) -> None:
    gpu.fault("error")
    stream = gateway.client().chat.completions.create(
        model="toolsmith", messages=HELLO, stream=True
    )
    assert stream.response.headers["x-toolsmith-engine"] == "cpu"
    stream.close()


def test_killed_gpu_engine_is_replaced_and_taken_back(gateway: Gateway, gpu: FakeEngine) -> None:
    gpu.kill()
    for number in range(20):
        if number % 2:
            assert stream_text(gateway).strip() == "hello from cpu"
        else:
            assert chat(gateway).headers["x-toolsmith-engine"] == "cpu"
    assert httpx.get(f"{gateway.url}/health/readiness").status_code == 200
    gpu.start()
    wait_for(lambda: chat(gateway).headers["x-toolsmith-engine"] == "gpu", "back on gpu", 5)


def test_stream_cut_midway_ends_with_an_error_event(gateway: Gateway, gpu: FakeEngine) -> None:
    gpu.fault("cut")
    with pytest.raises(openai.APIError) as caught:
        stream_text(gateway)
    assert caught.value.code == "stream_broken"
    assert "127.0.0.1" not in str(caught.value)


def test_both_engines_busy_is_429(gateway: Gateway, gpu: FakeEngine, cpu: FakeEngine) -> None:
    gpu.fault("busy")
    cpu.fault("busy")
    response = post(gateway, {"model": "toolsmith", "messages": HELLO})
    assert response.status_code == 429
    assert openai_error(response)["message"] == "too many requests"
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_both_engines_broken_is_503(
    gateway: Gateway, gpu: FakeEngine, cpu: FakeEngine, streamed: bool
) -> None:
    gpu.fault("error")
    cpu.fault("error")
    response = post(gateway, {"model": "toolsmith", "messages": HELLO, "stream": streamed})
    assert response.status_code == 503
    assert openai_error(response)["code"] == "engine_unavailable"


def test_both_engines_killed_is_503_and_not_ready(
    gateway: Gateway, gpu: FakeEngine, cpu: FakeEngine
) -> None:
    gpu.kill()
    cpu.kill()
    response = post(gateway, {"model": "toolsmith", "messages": HELLO})
    assert response.status_code == 503
    assert openai_error(response)["code"] == "engine_unavailable"
    assert int(response.headers["retry-after"]) > 0
    gateway.wait_for_states(gpu="down", cpu="down")
    assert httpx.get(f"{gateway.url}/health/readiness").status_code == 503
    assert httpx.get(f"{gateway.url}/health/liveliness").status_code == 200
    cpu.start()
    wait_for(lambda: gateway.states()["cpu"] == "up", "cpu back", 5)
    assert chat(gateway).headers["x-toolsmith-engine"] == "cpu"


def test_no_prompt_and_no_key_in_the_log(gateway: Gateway, gpu: FakeEngine) -> None:
    secret: Any = [{"role": "user", "content": "the colour is chartreuse"}]
    for mode in ("ok", "error", "refuse"):
        gpu.fault(mode)
        post(gateway, {"model": "toolsmith", "messages": secret})
        post(gateway, {"model": "toolsmith", "messages": secret, "stream": "banana"})
    log = gateway.log.read_text()
    assert "chartreuse" not in log
    assert KEY not in log
    assert "Traceback" not in log
