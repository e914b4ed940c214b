"""Training on a tiny random model: what enters the loss, what is refused, what repeats."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

from train.base import BaseModel
from train.config import TrainConfig, load_config
from train.embedded.generator import conversations
from train.encode import Encoded
from train.errors import TrainError
from train.tokens import EncodedRows, encode_rows
from train.training import Step, load_for_training, train

# Short ones, for speed.
_OFFERED = [row for row in conversations("train", 80, 3) if row.tools]
ROWS = sorted(_OFFERED, key=lambda row: len(row.model_dump_json()))[:8]


@pytest.fixture
def config(tiny_base: Path) -> TrainConfig:
    overrides = {
        "base": str(tiny_base),
        "max_steps": 3,
        "learning_rate": 1e-3,
        "sequence_length": 2048,
    }
    return load_config("smollm2-135m", overrides=overrides)


@pytest.fixture
def run(tokenizer: Any, tiny_base: Path, tmp_path: Path) -> Any:
    """Trains a fresh adapter; gives the steps and the model."""

    def run(config: TrainConfig, rows: EncodedRows) -> tuple[list[Step], Any]:
        model = load_for_training(BaseModel("tiny", str(tiny_base), "none"), config)
        return train(model, tokenizer, rows, config, tmp_path, lambda step: None), model

    return run


def adapter(model: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if "lora_" in name}


def test_the_loss_falls(config: TrainConfig, tokenizer: Any, run: Any) -> None:
    config = config.model_copy(update={"max_steps": 12, "learning_rate": 2e-2})
    steps, _ = run(config, encode_rows(tokenizer, ROWS[:2], 2048))
    assert [step.step for step in steps] == list(range(1, 13))
    assert sum(s.loss for s in steps[-4:]) < 0.9 * sum(s.loss for s in steps[:4])


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 2), (2, 1)])
def test_the_loss_is_the_mean_over_the_steps_trained_tokens(
    config: TrainConfig,
    tokenizer: Any,
    run: Any,
    tiny_base: Path,
    batch_size: int,
    accumulation: int,
) -> None:
    """Not a mean of the rows' means, and the same however the step is cut into passes."""
    layout = {"max_steps": 1, "batch_size": batch_size, "accumulation": accumulation}
    rows = encode_rows(tokenizer, ROWS[:2], 2048)
    (step,), trained = run(config.model_copy(update=layout), rows)

    # The run loads the base in bfloat16 where the machine computes in it: so must the reference.
    dtype = trained.get_input_embeddings().weight.dtype
    model = LlamaForCausalLM.from_pretrained(tiny_base, dtype=dtype)
    total = 0.0
    for row in rows:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0].float()
        losses = cross_entropy(logits[:-1], torch.tensor(row.input_ids[1:]), reduction="none")
        total += losses[torch.tensor(row.trained[1:])].sum().item()
    assert step.loss == pytest.approx(total / rows.trained_tokens, rel=1e-4)


def test_tokens_are_counted_without_padding(config: TrainConfig, tokenizer: Any, run: Any) -> None:
    config = config.model_copy(update={"max_steps": 1, "batch_size": 4})
    rows = encode_rows(tokenizer, ROWS[:4], 2048)
    steps, _ = run(config, rows)
    assert len({len(row.input_ids) for row in rows}) > 1
    assert steps[0].tokens == rows.tokens


def test_only_trained_tokens_enter_the_loss(config: TrainConfig, tokenizer: Any, run: Any) -> None:
    """The last token is attended to by no other: whether it is trained is all that it can do."""
    config = config.model_copy(update={"max_steps": 1})
    row = encode_rows(tokenizer, ROWS[:1], 2048)[0]
    assert not row.trained[-1]

    def loss(last: int, *, trained: bool) -> float:
        changed = replace(
            row,
            input_ids=[*row.input_ids[:-1], last],
            trained=[*row.trained[:-1], trained],
        )
        (step,) = run(config, EncodedRows.of([changed]))[0]
        return float(step.loss)

    assert loss(10, trained=False) == loss(4000, trained=False)
    assert loss(10, trained=True) != loss(4000, trained=True)


def test_the_base_weights_stay(config: TrainConfig, tokenizer: Any, run: Any) -> None:
    _, before = run(config.model_copy(update={"max_steps": 1}), encode_rows(tokenizer, ROWS, 2048))
    _, after = run(config.model_copy(update={"max_steps": 3}), encode_rows(tokenizer, ROWS, 2048))
    moved = {
        name
        for name, value in after.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    }
    assert moved
    assert all("lora_" in name for name in moved)


def test_equal_seeds_give_equal_adapters(config: TrainConfig, tokenizer: Any, run: Any) -> None:
    rows = encode_rows(tokenizer, ROWS, 2048)
    first, again, other = (
        adapter(run(config.model_copy(update={"seed": seed}), rows)[1]) for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_without_max_steps_the_epochs_count(config: TrainConfig, tokenizer: Any, run: Any) -> None:
    config = config.model_copy(update={"max_steps": None, "epochs": 1.5, "accumulation": 2})
    steps, _ = run(config, encode_rows(tokenizer, ROWS[:5], 2048))
    assert len(steps) == math.ceil(5 / 2 * 1.5)
    assert steps[-1].steps == len(steps)


def test_rows_that_are_too_long_are_dropped_whole_and_counted(tokenizer: Any) -> None:
    whole = encode_rows(tokenizer, ROWS, 10_000)
    lengths = sorted(len(row.input_ids) for row in whole)
    cut = encode_rows(tokenizer, ROWS, lengths[3])
    assert [len(row.input_ids) for row in cut] == [
        len(row.input_ids) for row in whole if len(row.input_ids) <= lengths[3]
    ]
    assert (whole.dropped, cut.dropped) == ({}, {"too-long": len(ROWS) - len(cut)})


def test_when_no_row_fits_the_shortest_is_named(tokenizer: Any) -> None:
    shortest = min(len(row.input_ids) for row in encode_rows(tokenizer, ROWS, 10_000))
    with pytest.raises(TrainError, match=f"sequence_length 64; the shortest has {shortest} tokens"):
        encode_rows(tokenizer, ROWS, 64)


def test_a_loss_that_is_no_number_stops_the_run(
    config: TrainConfig, tokenizer: Any, tiny_base: Path, tmp_path: Path
) -> None:
    model = load_for_training(BaseModel("tiny", str(tiny_base), "none"), config)
    with torch.no_grad():
        next(value for name, value in model.named_parameters() if "lora_B" in name).fill_(math.nan)
    rows = encode_rows(tokenizer, ROWS, 2048)
    with pytest.raises(TrainError, match=r"the loss is nan at step 1: lower learning_rate"):
        train(model, tokenizer, rows, config, tmp_path, lambda step: None)


def test_a_model_that_cannot_be_loaded_is_named(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TrainError, match="base model broken cannot be loaded"):
        load_for_training(BaseModel("broken", str(tmp_path), "none"), config)


def test_nothing_is_left_in_the_scratch_folder(
    config: TrainConfig, tokenizer: Any, run: Any, tmp_path: Path
) -> None:
    run(config, EncodedRows.of([Encoded([1, 5, 6, 2], [False, True, True, True])]))
    assert list(tmp_path.iterdir()) == []
