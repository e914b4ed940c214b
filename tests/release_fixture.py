"""A real, sealed release in a few seconds: a tiny Llama that has learnt a few answers by heart.

Engines load it like any other, and its greedy answers are known, so tests can ask for exact tool
calls without a trained release. It knows nothing but `ANSWERS`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFWriter, TokenType
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from release.manifest import Base, Dataset, Draft, Manifest, Served
from release.store import ReleaseStore
from tests.tiny_models import llama_pre_tokenizer
from train.template import KNOWN, Template

CONTEXT = 8192
VOCABULARY = 640
# Control tokens of each template's family: padding, BOS (if any), the others, the end of a turn.
SPECIAL = {
    "chatml-hermes": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama-nemotron": [
        "<|finetune_right_pad_id|>",
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ],
}
BOS = {"chatml-hermes": None, "llama-nemotron": 1}

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
TIME: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The time now",
        "parameters": {"type": "object", "properties": {}},
    },
}
NOTE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "save_note",
        "description": "Save a note",
        "parameters": {
            "type": "object",
            "properties": {"note": {"type": "object"}},
            "required": ["note"],
        },
    },
}


@dataclass(frozen=True)
class Answer:
    """What the model answers, greedily, to one user's message."""

    user: str
    tools: tuple[dict[str, Any], ...] = ()
    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()

    def messages(self) -> list[dict[str, Any]]:
        """The whole conversation, for the template."""
        calls = [
            {"type": "function", "function": {"name": name, "arguments": arguments}}
            for name, arguments in self.calls
        ]
        answer = {"role": "assistant", "content": self.text, "tool_calls": calls}
        return [{"role": "user", "content": self.user}, answer]


HELLO = Answer("Say hello", text="Hello! How can I help you today?")
ONE_CALL = Answer(
    "What is the weather in Paris?", (WEATHER,), calls=(("get_weather", {"city": "Paris"}),)
)
TWO_CALLS = Answer(
    "Compare Paris and Rome",
    (WEATHER,),
    calls=(("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})),
)
ZERO_ARGUMENTS = Answer("What time is it?", (TIME,), calls=(("get_time", {}),))
TEXT_AND_CALL = Answer(
    "Please look", (WEATHER,), "Let me look.", (("get_weather", {"city": "Rome"}),)
)
NESTED = Answer(
    "Save all of it",
    (NOTE,),
    calls=(
        ("save_note", {"note": {"é 東京": [1, -2.5, True, None, [], {}], 'a "b"': "\\n\n{}[]"}}),
        ("save_note", {"note": {"html": "<b></tool_call></TOOLCALL><|im_end|><|eot_id|></b>"}}),
    ),
)
ANSWERS = (HELLO, ONE_CALL, TWO_CALLS, ZERO_ARGUMENTS, TEXT_AND_CALL, NESTED)


def build_release(root: Path, name: str = "tiny", template: str = "chatml-hermes") -> Manifest:
    """Train, export and seal the tiny model into the store at `root`; points `stable` to it."""
    store = ReleaseStore(root)
    with store.stage() as staged:
        _export(staged, name, KNOWN[template])
        manifest = store.seal(staged, _draft(name, KNOWN[template]))
    store.set_channel("stable", manifest.id)
    return manifest


def _draft(name: str, template: Template) -> Draft:
    return Draft(
        name=name,
        base=Base(name="tests/tiny-llama", revision="none"),
        dataset=Dataset(
            name="answers", revision="none", sha256=hashlib.sha256(b"").hexdigest(), rows=3
        ),
        training={},
        libraries={"torch": torch.__version__},
        served=Served(
            chat_template_sha256=template.sha256,
            tool_format=template.tool_format,
            engines=template.engines,
            bos_token_id=BOS[template.name],
            eos_token_id=len(SPECIAL[template.name]) - 1,
            stop_tokens=list(template.stop_tokens),
            context_length=CONTEXT,
            dtype="float32",
        ),
        scores=[],
    )


def _export(staged: Path, name: str, template: Template) -> None:
    tokenizer = _tokenizer(template)
    model = _learn(tokenizer)
    merged = staged / "merged"
    tokenizer.save_pretrained(merged)
    model.save_pretrained(merged)
    (merged / "chat_template.jinja").write_text(template.source, encoding="utf-8")
    (staged / "gguf").mkdir()
    _write_gguf(staged / "gguf" / f"{name}.F32.gguf", model, tokenizer)
    adapter = staged / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    save_file({"none": torch.zeros(1)}, adapter / "adapter_model.safetensors")


def _texts(template: Template) -> Iterator[str]:
    yield template.source
    for answer in ANSWERS:
        yield json.dumps(answer.messages())
        yield json.dumps(answer.tools)


def _tokenizer(template: Template) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    if template.name == "llama-nemotron":
        tokenizer.pre_tokenizer = llama_pre_tokenizer()
    else:
        # The pieces that llama.cpp knows as "smollm".
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL[template.name],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(template), trainer)
    special, bos = SPECIAL[template.name], BOS[template.name]
    if bos is not None:
        # As Llama 3's own: text that is encoded without a template starts with BOS.
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{special[bos]} $A", special_tokens=[(special[bos], bos)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=None if bos is None else special[bos],
        eos_token=special[-1],
        pad_token=special[0],
        additional_special_tokens=special[1:-1],
        chat_template=template.source,
        clean_up_tokenization_spaces=False,
    )


def _learn(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    # Threads that spin beside other work made this ten times slower.
    torch.set_num_threads(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=0,
            tie_word_embeddings=False,
        )
    )
    rows = [_row(tokenizer, answer) for answer in ANSWERS]
    length = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [0] * (length - len(row)) for row, _ in rows])
    labels = torch.tensor(
        [[-100] * start + row[start:] + [-100] * (length - len(row)) for row, start in rows]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(800):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 1e-3:
            return model.eval()
    raise AssertionError(f"the tiny model did not learn its answers: loss {loss.item():.4f}")


def _row(tokenizer: PreTrainedTokenizerFast, answer: Answer) -> tuple[list[int], int]:
    """Token ids of a whole conversation and where the answer starts in them."""
    messages, tools = answer.messages(), list(answer.tools) or None
    whole = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False).rstrip("\n")
    prompt = tokenizer.apply_chat_template(
        messages[:1], tools=tools, tokenize=False, add_generation_prompt=True
    )
    assert whole.startswith(prompt)
    asked, answered = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (prompt, whole[len(prompt) :])
    )
    return asked + answered, len(asked)


def _write_gguf(path: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = sorted(bpe["vocab"], key=bpe["vocab"].__getitem__)
    pieces = vocabulary + [f"<unused{i}>" for i in range(len(vocabulary), config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if tokenizer.bos_token_id is None else "llama-bpe")
    writer.add_token_list(pieces)
    writer.add_token_types(
        [
            TokenType.CONTROL if index <= tokenizer.eos_token_id else TokenType.NORMAL
            for index in range(len(pieces))
        ]
    )
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(tokenizer.bos_token_id is not None)
    writer.add_chat_template(tokenizer.chat_template)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(*_tensor(name, tensor, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _tensor(name: str, tensor: torch.Tensor, config: LlamaConfig) -> tuple[str, Any]:
    for ours, theirs in _NAMES.items():
        name = name.replace(ours, theirs)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name and tensor.dim() == 2:
            # llama.cpp rotates neighbouring pairs where transformers rotates halves.
            rows, columns = tensor.shape
            halves = tensor.reshape(count, 2, rows // count // 2, columns)
            tensor = halves.transpose(1, 2).reshape(rows, columns)
    return name, tensor.to(torch.float32).numpy()
