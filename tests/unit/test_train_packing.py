"""Packs: whole rows, tightly, always the same; and rows of a pack that do not see each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AttentionInterface, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from train.base import BaseModel
from train.config import TrainConfig, load_config
from train.embedded.generator import conversations
from train.leak import LEAK, leak
from train.packing import pack
from train.tokens import encode_rows
from train.training import build_trainer, load_for_training, train

ROWS = sorted(conversations("train", 60, 3), key=lambda row: len(row.model_dump_json()))[:10]
CAPACITY = 64
LENGTHS = st.lists(st.integers(1, CAPACITY), max_size=60)


@given(LENGTHS)
def test_every_row_is_in_one_pack_and_no_pack_is_too_long(lengths: list[int]) -> None:
    packs = pack(lengths, CAPACITY).packs
    assert sorted(row for rows in packs for row in rows) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in rows) <= CAPACITY for rows in packs)


def best_fit(lengths: Sequence[int], capacity: int) -> int:
    """How many packs the textbook's quadratic best fit takes."""
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [place for place, left in enumerate(room) if left >= length]
        if fitting:
            room[min(fitting, key=room.__getitem__)] -= length
        else:
            room.append(capacity - length)
    return len(room)


@given(LENGTHS)
def test_packs_are_best_fit_decreasing(lengths: list[int]) -> None:
    assert len(pack(lengths, CAPACITY).packs) == best_fit(lengths, CAPACITY)


@given(LENGTHS)
def test_equal_lengths_give_equal_packs(lengths: list[int]) -> None:
    assert pack(lengths, CAPACITY) == pack(tuple(lengths), CAPACITY)


def test_efficiency_is_tokens_over_room() -> None:
    packs = pack([60, 30, 34, 4], 64)
    assert packs.packs == ((0, 3), (2, 1))
    assert packs.efficiency == 1.0
    assert pack([40, 40], 64).efficiency == 80 / 128


@pytest.mark.parametrize("length", [0, 65])
def test_a_row_that_fits_nowhere_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"row 1 has {length} tokens; a pack holds 1 to 64"):
        pack([3, length], 64)


def model_of(tiny_base: Path, attention: str) -> Any:
    return LlamaForCausalLM.from_pretrained(tiny_base, attn_implementation=attention).eval()


@pytest.fixture(scope="module")
def blind() -> Iterator[str]:
    """An attention that transformers builds no mask for: plain causal, whatever the positions."""
    AttentionInterface.register("unmasked", sdpa_attention_forward)
    yield "unmasked"
    AttentionInterface._global_mapping.pop("unmasked")


def settings(tiny_base: Path, **more: Any) -> TrainConfig:
    return load_config(
        "smollm2-135m",
        overrides={
            "base": str(tiny_base),
            "max_steps": 1,
            "sequence_length": 1024,
            "packing": True,
            **more,
        },
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_logits_are_the_rows_own(
    tokenizer: Any, tiny_base: Path, tmp_path: Path, attention: str
) -> None:
    """The batch is the one that SFTTrainer makes: several packs of several rows."""
    config = settings(tiny_base, batch_size=2)
    rows = encode_rows(tokenizer, ROWS, 1024, packing=True)
    peft_model = load_for_training(BaseModel("tiny", str(tiny_base), "none"), config)
    trainer = build_trainer(peft_model, tokenizer, rows, config, tmp_path)
    (examples, *_) = trainer.get_train_dataloader()
    batch = {k: v for k, v in examples.items() if k in ("input_ids", "position_ids")}
    assert batch["input_ids"].shape[0] == 1
    assert "attention_mask" not in examples

    model = model_of(tiny_base, attention)
    starts = [*(batch["position_ids"][0] == 0).nonzero()[:, 0].tolist(), len(batch["input_ids"][0])]
    assert len(starts) > 4
    with torch.inference_mode():
        packed = model(**batch, use_cache=False).logits[0]
        for start, end in pairwise(starts):
            alone = model(input_ids=batch["input_ids"][:, start:end], use_cache=False).logits[0]
            torch.testing.assert_close(packed[start:end], alone, rtol=1e-4, atol=1e-4)


def test_without_a_mask_packed_logits_are_others(tiny_base: Path, blind: str) -> None:
    """What the test above can see: the same comparison, with attention that leaks."""
    ids = torch.arange(100, 140)[None]
    positions = torch.arange(20).repeat(2)[None]
    with torch.inference_mode():
        packed = model_of(tiny_base, blind)(
            input_ids=ids, position_ids=positions, use_cache=False
        ).logits[0, 20:]
        alone = model_of(tiny_base, blind)(input_ids=ids[:, 20:], use_cache=False).logits[0]
    assert (packed - alone).abs().max() > 0.1


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_no_leak_is_measured_where_there_is_none(tiny_base: Path, attention: str) -> None:
    assert leak(model_of(tiny_base, attention)) < LEAK / 1000


def test_a_leak_is_measured(tiny_base: Path, blind: str) -> None:
    assert leak(model_of(tiny_base, blind)) > 10 * LEAK


@pytest.mark.parametrize("spoiled", ["attention_mask", "use_cache"])
def test_a_mask_or_a_cache_makes_packed_rows_leak(tiny_base: Path, spoiled: str) -> None:
    """A limit of transformers: training must hand over neither (see docs/training.md)."""
    model = model_of(tiny_base, "sdpa")
    ids, positions = torch.arange(100, 140)[None], torch.arange(20).repeat(2)[None]
    more = {"use_cache": spoiled == "use_cache"}
    mask = torch.ones_like(ids) if spoiled == "attention_mask" else None
    with torch.inference_mode():
        packed = model(input_ids=ids, position_ids=positions, attention_mask=mask, **more)
        alone = model(input_ids=ids[:, 20:], use_cache=False)
    assert (packed.logits[0, 20:] - alone.logits[0]).abs().max() > 0.1


def test_measuring_leaves_the_model_as_it_was(tiny_base: Path) -> None:
    model = model_of(tiny_base, "sdpa").train()
    leak(model)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_leak_is_warned_of_and_nothing_else_is(
    tokenizer: Any,
    tiny_base: Path,
    tmp_path: Path,
    blind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = settings(tiny_base)
    rows = encode_rows(tokenizer, ROWS, 1024, packing=True)
    model = load_for_training(BaseModel("tiny", str(tiny_base), "none"), config)
    with caplog.at_level(logging.WARNING):
        build_trainer(model, tokenizer, rows, config, tmp_path)
        assert "LEAK" not in caplog.text
        # TRL's guess from the name of the attention: replaced by what was measured.
        assert "padding-free" not in caplog.text.lower()
        model.set_attn_implementation(blind)
        build_trainer(model, tokenizer, rows, config, tmp_path)
    assert "PACKED ROWS LEAK: with attention 'unmasked'" in caplog.text


def test_a_packed_step_has_the_loss_and_the_gradient_of_single_rows(
    tokenizer: Any, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows in one step, in packs or one by one: the same mean, and the same new adapter."""
    # bfloat16, where the hardware has it, rounds more than this compares.
    monkeypatch.setattr("train.training.cpu_has_bfloat16", lambda: False)
    found = []
    for packing in (True, False):
        rows = encode_rows(tokenizer, ROWS, 1024, packing=packing)
        passes = len(rows.packs.packs) if rows.packs else len(rows)
        # The first step of the warm-up has a rate of 0, the second moves the adapter.
        layout = {"packing": packing, "accumulation": passes, "max_steps": 2}
        config = settings(tiny_base, optimizer="sgd", learning_rate=1.0, **layout)
        model = load_for_training(BaseModel("tiny", str(tiny_base), "none"), config)
        step, _ = train(model, tokenizer, rows, config, tmp_path, lambda step: None)
        adapter = {k: v for k, v in model.state_dict().items() if "lora_B" in k}
        found.append((step, adapter))
    (packed, packed_adapter), (single, single_adapter) = found
    assert packed.loss == pytest.approx(single.loss, rel=1e-5)
    assert packed.tokens == single.tokens
    for name, value in packed_adapter.items():
        torch.testing.assert_close(value, single_adapter[name], rtol=1e-3, atol=1e-6)
    assert any(value.abs().max() > 1e-4 for value in packed_adapter.values())
