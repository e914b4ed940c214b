"""Greedy generation in process: what evaluation and `infer` use, with the template of serving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from train.base import load_weights, resolve_base
from train.errors import TrainError
from train.messages import Message, Tool
from train.template import prompt

BATCH_TOKENS = 8192  # prompt tokens in one batch: bounds memory


@dataclass(frozen=True)
class Request:
    """What is asked: the turns so far and the tools offered."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


def load_for_inference(
    folder: Path, cache: Path
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Load a merged model or an adapter (with the base it names) for generation.

    Raises:
        TrainError: the folder holds neither.
    """
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        if (folder / "adapter_config.json").is_file():
            named = PeftConfig.from_pretrained(folder)
            base = resolve_base(str(named.base_model_name_or_path), named.revision or "main", cache)
            model = load_weights(base, dtype)
            loaded: PreTrainedModel | PeftModel = PeftModel.from_pretrained(model, folder)
        elif (folder / "config.json").is_file():
            loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        else:
            raise TrainError(f"{folder} holds neither an adapter nor a merged model")
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise TrainError(f"{folder} cannot be loaded: {error}") from error
    if torch.cuda.is_available():
        loaded = loaded.cuda()
    loaded.eval()
    return loaded, tokenizer


def answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    max_tokens: int,
    on_done: Callable[[int], None] = lambda count: None,
    must_begin: str = "",
) -> list[str]:
    """Greedy answers in the order of the requests, special tokens removed.

    Requests of like length share a batch. `on_done` gets the number finished after each. An answer
    that does not begin with `must_begin` is not completed.
    """
    prompts = [prompt(tokenizer, request.messages, request.tools) for request in requests]
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts]
    texts = [""] * len(requests)
    done = 0
    for batch in _batches([len(ids) for ids in encoded]):
        padded = tokenizer.pad(
            {"input_ids": [encoded[index] for index in batch]},
            padding_side="left",
            return_tensors="pt",
        ).to(model.device)
        with torch.inference_mode():
            generated = model.generate(
                **padded,
                max_new_tokens=max_tokens,
                do_sample=False,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList(
                    [_BeginsOtherwise(tokenizer, padded["input_ids"].shape[1], must_begin)]
                ),
            )
        for index, row in zip(batch, generated, strict=True):
            new = row[padded["input_ids"].shape[1] :]
            texts[index] = tokenizer.decode(new, skip_special_tokens=True)
        done += len(batch)
        on_done(done)
    return texts


def stream(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    request: Request,
    max_tokens: int,
    on_text: Callable[[str], None],
) -> str:
    """Greedy answer to one request; `on_text` gets its text piece by piece."""
    text = prompt(tokenizer, request.messages, request.tools)
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        generated = model.generate(
            **inputs,
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            streamer=_Pieces(tokenizer, on_text),
        )
    new = generated[0][inputs["input_ids"].shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=True))


class _BeginsOtherwise(StoppingCriteria):
    """Ends the rows of a batch whose answer does not begin as it must."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: int, begin: str) -> None:
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.begin = begin
        self.needed = len(tokenizer(begin, add_special_tokens=False)["input_ids"])

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> Any:
        """One flag a row, asked for after each token; (batch, tokens) → (batch,)."""
        new = input_ids[:, self.prompt :]
        if not self.begin or new.shape[1] < self.needed:
            return torch.zeros(len(new), dtype=torch.bool, device=new.device)
        texts = self.tokenizer.batch_decode(new[:, : self.needed + 2])
        wrong = [not text.lstrip().startswith(self.begin[: len(text.lstrip())]) for text in texts]
        return torch.tensor(wrong, dtype=torch.bool, device=new.device)


class _Pieces(BaseStreamer):
    """Decodes all new tokens each time and hands on what was added, so that no character breaks."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: Callable[[str], None]) -> None:
        self.tokenizer = tokenizer
        self.on_text = on_text
        self.tokens: list[int] | None = None
        self.shown = 0

    def put(self, value: Any) -> None:
        """Called by transformers with the prompt first, then with each token."""
        if self.tokens is None:
            self.tokens = []
            return
        self.tokens.extend(value.tolist())
        text = self.tokenizer.decode(self.tokens, skip_special_tokens=True)
        if not text.endswith("\ufffd"):
            self.on_text(text[self.shown :])
            self.shown = len(text)

    def end(self) -> None:
        """Called when the answer is complete."""


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices by rising length, cut so that no batch has more than BATCH_TOKENS with padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
