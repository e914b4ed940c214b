"""The files of a release: the merge, and converters that fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from train.base import BaseModel
from train.config import TrainConfig, load_config
from train.errors import TrainError
from train.export import check_gguf_tools, save_adapter, save_merged, set_template, write_ggufs
from train.template import KNOWN
from train.training import load_for_training

TEMPLATE = KNOWN["chatml-hermes"]


@pytest.fixture
def config(tiny_base: Path) -> TrainConfig:
    return load_config("smollm2-135m", overrides={"base": str(tiny_base)})


@pytest.fixture
def tuned(tiny_base: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> PeftModel:
    """An adapter that does something: a fresh one is zero."""
    # The pipeline exports at full precision, also where the CPU trains on rounded weights.
    monkeypatch.setattr("train.training.cpu_has_bfloat16", lambda: False)
    model = load_for_training(BaseModel("tiny", str(tiny_base), "none"), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.05)
    return model.eval()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_merged_is_base_and_adapter_to_rounding(
    tuned: PeftModel, tokenizer: Any, config: TrainConfig, tmp_path: Path, dtype: str
) -> None:
    ids = torch.tensor([[1, 500, 600, 700, 2]])
    with torch.inference_mode():
        adapted = tuned(input_ids=ids).logits
        with tuned.disable_adapter():
            plain = tuned(input_ids=ids).logits
    save_merged(tuned, tokenizer, config.model_copy(update={"merged_dtype": dtype}), tmp_path)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert merged.dtype == getattr(torch, dtype)
    with torch.inference_mode():
        logits = merged.float()(input_ids=ids).logits
    assert (adapted - plain).abs().mean() > 0.05, "the adapter must change something"
    tolerance = {"float16": 0.003, "bfloat16": 0.03}[dtype]
    assert (logits - adapted).abs().mean() < tolerance


def test_a_saved_adapter_gives_the_same_answers(
    tuned: PeftModel, tokenizer: Any, tiny_base: Path, tmp_path: Path
) -> None:
    ids = torch.tensor([[1, 500, 600, 700, 2]])
    save_adapter(tuned, tokenizer, tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    with torch.inference_mode():
        again = PeftModel.from_pretrained(base, tmp_path)(input_ids=ids).logits
        torch.testing.assert_close(again, tuned(input_ids=ids).logits)


def test_an_adapter_names_the_base_that_was_asked_for(
    tokenizer: Any, tiny_base: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """Not the folder in this machine's cache: another machine has another."""
    config = config.model_copy(update={"base": "embedded:smollm2-135m"})
    model = load_for_training(BaseModel("SmolLM2", str(tiny_base), "none"), config)
    save_adapter(model, tokenizer, tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert saved["base_model_name_or_path"] == "embedded:smollm2-135m"
    assert not (tmp_path / "README.md").exists()


def test_merged_holds_what_a_server_starts_from(
    tuned: PeftModel, tokenizer: Any, config: TrainConfig, tmp_path: Path
) -> None:
    save_merged(tuned, tokenizer, config, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors"}
    assert names >= {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert (tmp_path / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATE.source
    generation = json.loads((tmp_path / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == tokenizer.eos_token_id
    assert not generation.get("do_sample")
    assert "temperature" not in generation


def test_a_stop_token_that_the_base_does_not_know_is_refused(tiny_base: Path) -> None:
    other = AutoTokenizer.from_pretrained(tiny_base)
    unknown = KNOWN["chatml-hermes"].__class__(
        "other", "hermes", TEMPLATE.engines, ("<|no_such_mark|>",)
    )
    with pytest.raises(TrainError, match=r"ends a turn with <\|no_such_mark\|>, which is \d+"):
        set_template(other, unknown)


def test_the_eos_becomes_what_the_template_ends_with(tiny_base: Path) -> None:
    other = AutoTokenizer.from_pretrained(tiny_base)
    other.eos_token = "<|endoftext|>"
    other.pad_token = None
    set_template(other, TEMPLATE)
    assert (other.eos_token, other.pad_token) == ("<|im_end|>", "<|im_end|>")


# --- GGUF, with stand-ins for llama.cpp's tools ---

# Writes the arguments as the file.
WRITES = "import sys, pathlib; pathlib.Path(sys.argv[3]).write_text(' '.join(sys.argv[1:]))"
FAILS = """
import pathlib, sys
pathlib.Path(sys.argv[3]).write_text("half")
sys.exit("Traceback\\nNotImplementedError: no such architecture")
"""


def llama_cpp(folder: Path, converter: str, quantizer: str | None = None) -> Path:
    (folder / "convert_hf_to_gguf.py").write_text(converter, encoding="utf-8")
    if quantizer is not None:
        (folder / "bin").mkdir()
        binary = folder / "bin" / "llama-quantize"
        binary.write_text(f"#!/bin/sh\n{quantizer}\n", encoding="utf-8")
        binary.chmod(0o755)
    return folder


def test_each_quantization_is_one_file(tmp_path: Path) -> None:
    tools = llama_cpp(tmp_path, WRITES, 'echo "$3" > "$2"')
    write_ggufs(Path("merged"), tmp_path / "gguf", "n", ("Q8_0", "Q4_K_M", "F16"), tools)
    files = {path.name: path.read_text() for path in (tmp_path / "gguf").iterdir()}
    assert set(files) == {"n.Q8_0.gguf", "n.Q4_K_M.gguf", "n.F16.gguf"}
    assert files["n.Q8_0.gguf"].endswith("--outtype q8_0")
    assert files["n.Q4_K_M.gguf"] == "Q4_K_M\n"


def test_a_converter_that_fails_leaves_no_file_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainError) as caught:
        write_ggufs(Path("m"), tmp_path / "gguf", "n", ("Q8_0",), llama_cpp(tmp_path, FAILS))
    message = str(caught.value)
    assert "could not write n.Q8_0.gguf" in message
    assert "no such architecture" in message
    assert "convert_hf_to_gguf.py" in message
    assert list((tmp_path / "gguf").iterdir()) == []


def test_a_quantizer_that_fails_leaves_no_file_and_says_why(tmp_path: Path) -> None:
    tools = llama_cpp(tmp_path, WRITES, 'echo half > "$2"; echo "bad rows" >&2; exit 1')
    with pytest.raises(TrainError, match=r"llama-quantize could not write n\.Q4_K_M\.gguf:\nbad"):
        write_ggufs(Path("m"), tmp_path / "gguf", "n", ("Q4_K_M",), tools)
    assert list((tmp_path / "gguf").iterdir()) == []


def test_a_tool_that_writes_nothing_has_failed(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"could not write n\.Q8_0\.gguf"):
        write_ggufs(Path("m"), tmp_path / "gguf", "n", ("Q8_0",), llama_cpp(tmp_path, "pass"))


def test_a_quantizer_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    tools = llama_cpp(tmp_path, WRITES, "true")
    (tools / "bin" / "llama-quantize").chmod(0o644)
    with pytest.raises(TrainError, match="llama-quantize"):
        write_ggufs(Path("m"), tmp_path / "gguf", "n", ("Q4_K_M",), tools)


def test_missing_tools_are_told_before_the_training(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"converter is not in .*: run `make setup`"):
        check_gguf_tools(config, tmp_path)
    llama_cpp(tmp_path, WRITES)
    check_gguf_tools(config, tmp_path)
    with pytest.raises(TrainError, match=r"Q4_K_M needs .* run `make quantizer`"):
        check_gguf_tools(config.model_copy(update={"gguf": ("Q8_0", "Q4_K_M")}), tmp_path)
