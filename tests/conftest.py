"""Fixtures that several parts' tests use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from train.base import BaseModel
    from train.template import Template

# A busy machine is no failure.
settings.register_profile("toolsmith", deadline=None)
settings.load_profile("toolsmith")


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose channel `stable` names the tiny release; made once, in about 15 s."""
    from tests.release_fixture import build_release

    root = tmp_path_factory.mktemp("tiny") / "models"
    build_release(root)
    return root


@pytest.fixture(scope="session")
def tiny_nemotron_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with Llama-Nemotron's template and control tokens; made once, in about 40 s."""
    from tests.release_fixture import build_release

    root = tmp_path_factory.mktemp("tiny-nemotron") / "models"
    build_release(root, template="llama-nemotron")
    return root


@pytest.fixture(scope="session")
def embedded_base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """SmolLM2-135M, prepared as for a first run; made once, in about 10 s."""
    from train.base import prepare_embedded

    return prepare_embedded(tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="session")
def tokenizer(embedded_base: BaseModel) -> Any:
    """SmolLM2's tokenizer with the template that is trained on."""
    from transformers import AutoTokenizer

    from train.export import set_template
    from train.template import KNOWN

    loaded = AutoTokenizer.from_pretrained(embedded_base.source)
    set_template(loaded, KNOWN["chatml-hermes"])
    return loaded


@pytest.fixture(scope="session", params=["chatml-hermes", "llama-nemotron"])
def templated(request: pytest.FixtureRequest, embedded_base: BaseModel) -> tuple[Template, Any]:
    """Each template, and SmolLM2's tokenizer with its control tokens."""
    from tests.tiny_models import tokenizer_for
    from train.template import KNOWN

    return KNOWN[request.param], tokenizer_for(request.param, Path(embedded_base.source))


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, embedded_base: BaseModel) -> Path:
    """A saved Llama of 2 small layers and random weights, with SmolLM2's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-base") / "tiny"
    base_tokenizer = AutoTokenizer.from_pretrained(embedded_base.source)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(base_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=base_tokenizer.bos_token_id,
        eos_token_id=base_tokenizer.eos_token_id,
        pad_token_id=base_tokenizer.pad_token_id,
        tie_word_embeddings=True,  # as SmolLM2 does
        # Large enough for an adapter alone to move the output: the embeddings are its last layer.
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    base_tokenizer.save_pretrained(folder)
    return folder
