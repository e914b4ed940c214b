"""A tiny random model for each template, as vLLM and as llama.cpp load it.

The vocabulary is SmolLM2's, with Llama 3's control tokens added where the template needs them: what
these models answer means nothing, what their prompts become is exact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from train.export import set_template, write_ggufs
from train.template import KNOWN

CONTEXT = 4096
LLAMA_BOS = "<|begin_of_text|>"
LLAMA_TOKENS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
# How Llama 3 splits a text before it merges; llama.cpp knows it as "llama-bpe".
LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_CPP = Path(__file__).parent.parent / ".cache" / "llama.cpp"


@dataclass(frozen=True)
class TinyModel:
    """The files of one model; `tokenizer` has the template."""

    template: str
    merged: Path
    gguf: Path
    tokenizer: Any


def llama_pre_tokenizer() -> PreTokenizer:
    """Llama 3's own."""
    split = Split(Regex(LLAMA_SPLIT), behavior="isolated")
    return Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])


def tokenizer_for(template: str, base: Path) -> Any:
    """SmolLM2's tokenizer as a model of the template's family would have it."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    if template == "llama-nemotron":
        tokenizer.add_special_tokens(
            {"bos_token": LLAMA_BOS, "additional_special_tokens": LLAMA_TOKENS}
        )
        tokenizer.backend_tokenizer.pre_tokenizer = llama_pre_tokenizer()
    set_template(tokenizer, KNOWN[template])
    return tokenizer


def build(template: str, base: Path, folder: Path) -> TinyModel:
    """Write the model for both engines; `base` is a folder with SmolLM2's tokenizer."""
    tokenizer = tokenizer_for(template, base)
    # The converter knows only this vocabulary's own way to split.
    own = AutoTokenizer.from_pretrained(base).backend_tokenizer.pre_tokenizer
    tokenizer.backend_tokenizer.pre_tokenizer = own
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    merged = folder / "merged"
    LlamaForCausalLM(config).save_pretrained(merged)
    tokenizer.save_pretrained(merged)
    adds_bos = template == "llama-nemotron"
    settings = merged / "tokenizer_config.json"
    settings.write_text(
        json.dumps(json.loads(settings.read_text()) | {"add_bos_token": adds_bos}), encoding="utf-8"
    )
    write_ggufs(merged, folder / "gguf", "tiny", ("F16",), LLAMA_CPP)
    if adds_bos:
        # As Llama 3's own: text that is encoded without a template starts with BOS. Only now,
        # because the converter tells vocabularies apart by what they encode a text to.
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{LLAMA_BOS} $A",
            pair=f"{LLAMA_BOS} $A {LLAMA_BOS} $B",
            special_tokens=[(LLAMA_BOS, tokenizer.bos_token_id)],
        )
        tokenizer.save_pretrained(merged)
    return TinyModel(template, merged, folder / "gguf" / "tiny.F16.gguf", tokenizer)
