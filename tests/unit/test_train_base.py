"""The base model: the embedded one's tokens, a preparation that is cut off, other sources."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from train import base as module
from train.base import EMBEDDED_BASE, BaseModel, prepare_embedded, resolve_base
from train.errors import TrainError


def test_a_turn_ends_with_the_eos(tokenizer: Any, embedded_base: BaseModel) -> None:
    model = AutoModelForCausalLM.from_pretrained(embedded_base.source)
    assert tokenizer.encode("<|im_end|>") == [2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    for config in (model.config, model.generation_config):
        assert (config.bos_token_id, config.eos_token_id) == (1, 2)
    assert not hasattr(model.config, "quantization_config")


def test_digits_are_split_singly(tokenizer: Any) -> None:
    assert tokenizer.tokenize("in 2026: 3.14") == [
        *("in", "Ġ", "2", "0", "2", "6", ":", "Ġ", "3", ".", "1", "4")
    ]


def test_no_token_is_added_around_a_text(tokenizer: Any) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.decode(tokenizer.encode("Hello")) == "Hello"


# SmolLM2's vocabulary lacks the bytes of six control characters and of planes without characters.
TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Co", "Cn", "Cc"), include_characters="\n\t")
)


@given(TEXT)
def test_any_text_comes_back(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


def test_a_prepared_base_is_used_again(
    embedded_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_dequantize", lambda *_: pytest.fail("prepared twice"))
    cache = Path(embedded_base.source).parent.parent
    assert resolve_base(EMBEDDED_BASE, "main", cache) == embedded_base


def test_others_can_read_the_folder(embedded_base: BaseModel) -> None:
    assert Path(embedded_base.source).stat().st_mode & 0o777 == 0o755


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(package: Path, target: Path) -> None:
        (target / "config.json").write_text("{}", encoding="utf-8")
        raise OSError("disk full")

    monkeypatch.setattr(module, "_dequantize", half)
    with pytest.raises(OSError, match="disk full"):
        prepare_embedded(tmp_path)
    assert list((tmp_path / "base").iterdir()) == []


def _killed_half_way(cache: Path) -> None:
    def half(package: Path, target: Path) -> None:
        (target / "config.json").write_text("{}", encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)

    module._dequantize = half
    prepare_embedded(cache)


def test_a_kill_in_the_middle_leaves_no_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = multiprocessing.get_context("fork").Process(target=_killed_half_way, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "base").glob("smollm2-*")] == []

    def whole(package: Path, target: Path) -> None:
        (target / "config.json").write_text('{"whole": true}', encoding="utf-8")

    monkeypatch.setattr(module, "_dequantize", whole)
    prepared = Path(prepare_embedded(tmp_path).source)
    assert json.loads((prepared / "config.json").read_text(encoding="utf-8")) == {"whole": True}


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGE", "no_such_package")
    with pytest.raises(TrainError, match="package no_such_package is missing: run `make setup`"):
        prepare_embedded(tmp_path)


def test_a_local_folder_is_its_own_source(tiny_base: Path, tmp_path: Path) -> None:
    found = resolve_base(str(tiny_base), "main", tmp_path)
    assert found.source == str(tiny_base)
    assert len(found.revision) == 16
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"holds no config\.json: it is not a saved model"):
        resolve_base(str(tmp_path), "main", tmp_path)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all"])
def test_a_path_is_never_taken_for_a_hub_id(name: str, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no such folder"):
        resolve_base(name, "main", tmp_path)


def test_anything_else_is_a_hub_id(tmp_path: Path) -> None:
    assert resolve_base("org/model", "v1", tmp_path) == BaseModel("org/model", "org/model", "v1")
