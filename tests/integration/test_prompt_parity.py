"""The fixed set over SmolLM2's vocabulary: equal token ids in transformers and llama.cpp.

The same for vLLM, and for Llama 3's way to split a text, is in test_serve_vllm.py and
test_serve_llamacpp.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from release.parity.prompts import Prompt, fixed_set
from serve.llamacpp.settings import LlamaCppSettings
from tests.native_stack import ROOT, eventually, free_port
from tests.served_answers import llamacpp_tokens
from tests.tiny_models import CONTEXT, TinyModel, build
from train.base import BaseModel
from train.template import KNOWN

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
PROMPTS = fixed_set()


@pytest.fixture(scope="module", params=list(KNOWN))
def model(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    embedded_base: BaseModel,
) -> TinyModel:
    folder = tmp_path_factory.mktemp(request.param)
    return build(request.param, Path(embedded_base.source), folder)


def trained_ids(model: TinyModel, prompt: Prompt, ask: bool) -> list[int]:
    """What training and in-process inference make of it."""
    encoded = model.tokenizer.apply_chat_template(
        prompt.for_template(), tools=prompt.tools or None, add_generation_prompt=ask
    )
    return list(encoded["input_ids"])


@contextmanager
def running(command: list[str], url: str, log: Path, **environment: str) -> Iterator[httpx.Client]:
    """A server that answers /health, stopped afterwards."""
    with log.open("w") as output, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

        def healthy() -> bool:
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                return client.get("/health").status_code == 200
            except httpx.TransportError:
                return False

        try:
            eventually(healthy, f"{url} is healthy", 240)
            yield client
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def llamacpp(model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("llamacpp")
    template = folder / "chat_template.jinja"
    template.write_text(KNOWN[model.template].source, encoding="utf-8")
    settings = LlamaCppSettings(
        model=str(model.gguf),
        aliases=("tiny",),
        host="127.0.0.1",
        port=free_port(),
        context=CONTEXT,
        slots=1,
        threads=1,
        chat_template=str(template),
        prompt_cache_mib=0,
    )
    command = [sys.executable, "-m", "serve.llamacpp.native", settings.to_json()]
    url = f"http://127.0.0.1:{settings.port}"
    with running(command, url, folder / "log") as client:
        yield client


@pytest.mark.parametrize("ask", [True, False], ids=["to answer", "whole"])
@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.name)
def test_llamacpp_reads_the_tokens_of_training(
    llamacpp: httpx.Client, model: TinyModel, prompt: Prompt, ask: bool
) -> None:
    assert llamacpp_tokens(llamacpp, prompt, ask) == trained_ids(model, prompt, ask)


def test_llamacpp_sees_what_the_template_can_do(llamacpp: httpx.Client) -> None:
    capabilities = llamacpp.get("/props").json()["chat_template_caps"]
    wanted = {
        "supports_tools",
        "supports_tool_calls",
        "supports_parallel_tool_calls",
        "supports_object_arguments",
        "supports_system_role",
    }
    assert {name for name in wanted if capabilities[name]} == wanted


def test_one_bos_stands_at_the_start_where_the_model_has_one(model: TinyModel) -> None:
    if model.template == "llama-nemotron":
        for prompt in PROMPTS:
            ids = trained_ids(model, prompt, ask=True)
            assert ids.index(model.tokenizer.bos_token_id) == 0
            assert ids.count(model.tokenizer.bos_token_id) == 1
