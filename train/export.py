"""From a trained adapter to the files of a release: adapter, merged weights, GGUF."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from train.config import TrainConfig
from train.errors import TrainError
from train.template import Template

log = logging.getLogger(__name__)

# What llama.cpp's converter writes by itself; the others need llama-quantize.
CONVERTER_TYPES = {"F16": "f16", "Q8_0": "q8_0"}


def save_adapter(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the LoRA adapter, with the tokenizer and template that it was trained with."""
    # The vocabulary is the base's own; without this, PEFT would ask the hub for its size.
    model.save_pretrained(folder, save_embedding_layers=False)
    # PEFT leaves a model card full of placeholders.
    (folder / "README.md").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)


def save_merged(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, config: TrainConfig, folder: Path
) -> None:
    """Merge the adapter into the weights and write them in 16 bits, ready for vLLM.

    The merge is done in the precision of training, and rounded once. `model` is used up.
    """
    merged = model.merge_and_unload()
    merged = merged.to(getattr(torch, config.merged_dtype))
    generation = merged.generation_config
    generation.eos_token_id = tokenizer.eos_token_id
    generation.pad_token_id = tokenizer.pad_token_id
    # A server takes its defaults from here: greedy unless a request asks otherwise.
    generation.do_sample = False
    generation.temperature = generation.top_p = generation.top_k = None
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def set_template(tokenizer: PreTrainedTokenizerBase, template: Template) -> None:
    """Give the tokenizer our template.

    Raises:
        TrainError: a stop token of the template is not one token, or not the tokenizer's eos.
    """
    for token in template.stop_tokens:
        ids = tokenizer.encode(token, add_special_tokens=False)
        if len(ids) != 1:
            raise TrainError(
                f"the template {template.name} ends a turn with {token}, which is {len(ids)} "
                "tokens in this tokenizer: choose a template that fits the base model"
            )
    if tokenizer.eos_token != template.stop_tokens[0]:
        log.info("the tokenizer's eos becomes %s, as the template ends", template.stop_tokens[0])
        tokenizer.eos_token = template.stop_tokens[0]
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = template.source


def check_gguf_tools(config: TrainConfig, llama_cpp: Path) -> None:
    """Find out before training whether the GGUF files can be written after it.

    Raises:
        TrainError: the converter or the quantizer is missing.
    """
    if not (llama_cpp / "convert_hf_to_gguf.py").is_file():
        raise TrainError(f"llama.cpp's converter is not in {llama_cpp}: run `make setup`")
    needs = [name for name in config.gguf if name not in CONVERTER_TYPES]
    if needs and not _quantizer(llama_cpp).is_file():
        raise TrainError(
            f"{', '.join(needs)} needs llama.cpp's quantizer, which is compiled once: "
            "run `make quantizer` (about 5 minutes on 2 cores), or ask for --gguf Q8_0"
        )


def write_ggufs(
    merged: Path, folder: Path, name: str, quantizations: tuple[str, ...], llama_cpp: Path
) -> None:
    """Write <folder>/<name>.<QUANT>.gguf for each quantization.

    Raises:
        TrainError: the converter or quantizer failed; no partial file is left.
    """
    folder.mkdir()
    half = folder / f".{name}.F16.gguf"
    try:
        for quantization in quantizations:
            target = folder / f"{name}.{quantization}.gguf"
            if quantization in CONVERTER_TYPES:
                _convert(merged, target, CONVERTER_TYPES[quantization], llama_cpp)
                continue
            if not half.exists():
                _convert(merged, half, "f16", llama_cpp)
            _run([str(_quantizer(llama_cpp)), str(half), str(target), quantization], target)
    finally:
        half.unlink(missing_ok=True)


def _convert(merged: Path, target: Path, outtype: str, llama_cpp: Path) -> None:
    script = llama_cpp / "convert_hf_to_gguf.py"
    _run(
        [sys.executable, str(script), str(merged), "--outfile", str(target), "--outtype", outtype],
        target,
    )


def _quantizer(llama_cpp: Path) -> Path:
    return llama_cpp / "bin" / "llama-quantize"


def _run(command: list[str], target: Path) -> None:
    tool = Path(command[1] if command[0] == sys.executable else command[0]).name
    # The converter takes its own copy of gguf-py, which lies beside it.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except OSError as error:
        raise TrainError(f"{command[0]} cannot be started: {error.strerror}") from error
    if done.returncode != 0 or not target.is_file():
        target.unlink(missing_ok=True)
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise TrainError(f"{tool} could not write {target.name}:\n{tail}")
    log.debug("wrote %s", target)
