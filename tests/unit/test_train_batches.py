"""What SFTTrainer's own batches train on, and that a wrong one never reaches the model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from train.base import BaseModel
from train.batches import IGNORED
from train.config import TrainConfig, load_config
from train.embedded.generator import conversations
from train.encode import Encoded
from train.errors import TrainError
from train.messages import Conversation, Message, Tool, ToolCall
from train.tokens import EncodedRows, encode_rows
from train.training import build_trainer, load_for_training

LAYOUTS = pytest.mark.parametrize(
    ("packing", "batch_size"), [(False, 1), (False, 3), (True, 1), (True, 2)]
)


def row(number: int) -> Conversation:
    """A row in which each part says whose it is; of another length for each number."""
    call = ToolCall(name="learned_call", arguments={"a": number, "b": ["learned"] * number})
    return Conversation(
        messages=(
            Message(role="system", content=f"unlearned system {number}"),
            Message(role="user", content=f"unlearned question {number}"),
            Message(role="assistant", content="learned text", tool_calls=(call,)),
            Message(role="tool", content=f"unlearned result {number} " * number),
            Message(role="assistant", content=f"learned answer {number}"),
            Message(role="user", content="unlearned thanks"),
            Message(role="assistant", content="learned goodbye"),
        ),
        tools=(Tool(name="unlearned_function", description="unlearned description"),),
    )


ROWS = [row(number) for number in range(1, 12)]


def trained_texts(number: int) -> list[str]:
    """What must be learned of `row(number)`, written by hand."""
    learned = ", ".join(['"learned"'] * number)
    return [
        'learned text\n<tool_call>\n{"name": "learned_call", "arguments": '
        f'{{"a": {number}, "b": [{learned}]}}}}\n</tool_call><|im_end|>',
        f"learned answer {number}<|im_end|>",
        "learned goodbye<|im_end|>",
    ]


Build = Callable[..., Any]


@pytest.fixture(scope="module")
def build(tokenizer: Any, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A real SFTTrainer on rows, as a run makes it."""
    model = load_for_training(BaseModel("tiny", str(tiny_base), "none"), settings(tiny_base))

    def build(rows: EncodedRows, **more: Any) -> Any:
        folder = tmp_path_factory.mktemp("trainer")
        return build_trainer(model, tokenizer, rows, settings(tiny_base, **more), folder)

    return build


def settings(tiny_base: Path, **more: Any) -> TrainConfig:
    overrides = {"base": str(tiny_base), "sequence_length": 600, "epochs": 1, **more}
    return load_config("smollm2-135m", overrides=overrides)


def labelled_texts(tokenizer: Any, batch: dict[str, Any]) -> list[str]:
    """The texts of the runs of labels, as the loss sees them: each label is a token to predict."""
    texts = []
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        on = labels != IGNORED
        assert torch.equal(ids[on], labels[on])
        runs = groupby(zip(on.tolist(), ids.tolist(), strict=True), key=lambda pair: pair[0])
        texts += [tokenizer.decode([token for _, token in run]) for learned, run in runs if learned]
    return texts


@LAYOUTS
def test_the_loss_is_on_the_assistants_turns_and_nothing_else(
    tokenizer: Any, build: Build, packing: bool, batch_size: int
) -> None:
    rows = encode_rows(tokenizer, ROWS, 600, packing=packing)
    trainer = build(rows, packing=packing, batch_size=batch_size, accumulation=2)
    texts = [
        text
        for batch in trainer.get_train_dataloader()
        for text in labelled_texts(tokenizer, batch)
    ]
    expected = [text for number in range(1, 12) for text in trained_texts(number)]
    assert sorted(texts) == sorted(expected)
    assert not any("unlearned" in text for text in texts)


@LAYOUTS
def test_every_token_is_in_a_batch_once(
    tokenizer: Any, build: Build, packing: bool, batch_size: int
) -> None:
    rows = encode_rows(tokenizer, ROWS, 600, packing=packing)
    batches = list(build(rows, packing=packing, batch_size=batch_size).get_train_dataloader())
    seen = sorted(
        number for batch in batches for line in batch["input_ids"].tolist() for number in line
    )
    padding = sum(
        int((batch["attention_mask"] == 0).sum()) for batch in batches if "attention_mask" in batch
    )
    pad = [tokenizer.pad_token_id] * padding
    assert seen == sorted([*(token for row in rows for token in row.input_ids), *pad])
    assert bool(padding) == (not packing and batch_size > 1)


@pytest.mark.parametrize("packing", [False, True])
def test_a_rows_first_token_is_never_learned_from_the_row_before(
    build: Build, packing: bool
) -> None:
    """Even where the mask says so: it follows nothing."""
    rows = EncodedRows.of(
        [Encoded([5, 6, 7], [True, True, False]), Encoded([8, 9], [True, True])],
        pack_into=10 if packing else None,
    )
    batches = build(rows, packing=packing).get_train_dataloader()
    labels = sorted(batch["labels"][0].tolist() for batch in batches)
    single = [[IGNORED, 6, IGNORED], [IGNORED, 9]]
    assert labels == ([[*single[0], *single[1]]] if packing else single)


def shifted(batch: dict[str, Any]) -> None:
    batch["labels"] = batch["labels"].roll(1, dims=1)


def everything(batch: dict[str, Any]) -> None:
    batch["labels"] = batch["input_ids"].clone()


def nothing(batch: dict[str, Any]) -> None:
    batch["labels"][:] = IGNORED


def one_more(batch: dict[str, Any]) -> None:
    """One token of a user's or a tool's text enters the loss."""
    at = (batch["labels"][0] == IGNORED).nonzero()[7, 0]
    batch["labels"][0, at] = batch["input_ids"][0, at]


def one_less(batch: dict[str, Any]) -> None:
    at = (batch["labels"][0] != IGNORED).nonzero()[0, 0]
    batch["labels"][0, at] = IGNORED


def another_token(batch: dict[str, Any]) -> None:
    batch["input_ids"][0, 3] += 1


def cut(batch: dict[str, Any]) -> None:
    for name in ("input_ids", "labels", "attention_mask", "position_ids"):
        if name in batch:
            batch[name] = batch[name][:, :-5]


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize(
    "fault", [shifted, everything, nothing, one_more, one_less, another_token, cut]
)
def test_a_batch_that_trains_other_tokens_stops_the_run_before_the_first_step(
    tokenizer: Any, build: Build, packing: bool, fault: Callable[[dict[str, Any]], None]
) -> None:
    rows = encode_rows(tokenizer, ROWS[:4], 600, packing=packing)
    trainer = build(rows, packing=packing)
    inner = trainer.data_collator.collate

    def faulty(examples: list[Any]) -> Any:
        batch = inner(examples)
        fault(batch)
        return batch

    trainer.data_collator.collate = faulty
    with pytest.raises(TrainError, match=r"row \d+, token \d+ of \d+: the trainer's batch has"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_positions_that_run_on_stop_the_run(tokenizer: Any, build: Build) -> None:
    """They would join the rows of a pack into one."""
    trainer = build(encode_rows(tokenizer, ROWS[:4], 600, packing=True), packing=True)
    inner = trainer.data_collator.collate

    def faulty(examples: list[Any]) -> Any:
        batch = inner(examples)
        batch["position_ids"] = torch.arange(batch["input_ids"].shape[1])[None]
        return batch

    trainer.data_collator.collate = faulty
    with pytest.raises(TrainError, match=r"has position \d+ where 0 belongs"):
        trainer.train()


def test_the_named_row_is_the_row_of_the_data(tokenizer: Any, build: Build) -> None:
    """Rows that were dropped before it count."""
    unlearnable = Conversation(messages=(Message(role="user", content="u"),))
    rows = encode_rows(tokenizer, [unlearnable, unlearnable, ROWS[0]], 600)
    trainer = build(rows)
    trainer.data_collator.collate = lambda examples: {
        "input_ids": torch.tensor([examples[0]["input_ids"]]),
        "labels": torch.tensor([examples[0]["input_ids"]]),
    }
    message = r"row 3, token 1 of \d+: the trainer's batch has label 1 where -100 belongs"
    with pytest.raises(TrainError, match=message):
        next(iter(trainer.get_train_dataloader()))


# One test for each of TRL's faults that this design goes around. The fourth,
# a template without generation marks (trl#4201), is in test_train_encode.py.


def test_packing_keeps_the_mask(tokenizer: Any, build: Build) -> None:
    """trl#3728: assistant_only_loss did nothing when packing."""
    rows = encode_rows(tokenizer, ROWS, 600, packing=True)
    assert rows.packs
    assert len(rows.packs.packs) < len(rows)
    batches = list(build(rows, packing=True).get_train_dataloader())
    learned = sum(int((batch["labels"] != IGNORED).sum()) for batch in batches)
    assert 0 < learned == rows.trained_tokens < rows.tokens


@pytest.mark.parametrize("packing", [False, True])
def test_nothing_is_cut_so_no_mask_can_vanish(tokenizer: Any, build: Build, packing: bool) -> None:
    """trl#3927: past max_length the mask was all zeros, and so was the loss."""
    whole = encode_rows(tokenizer, ROWS, 10_000)
    limit = int(sorted(whole.lengths)[5])
    rows = encode_rows(tokenizer, ROWS, limit, packing=packing)
    assert rows.dropped == {"too-long": 5}
    trainer = build(rows, packing=packing, sequence_length=max(limit, 64))
    assert trainer.args.max_length is None
    texts = [
        text
        for batch in trainer.get_train_dataloader()
        for text in labelled_texts(tokenizer, batch)
    ]
    expected = [text for number in range(1, 7) for text in trained_texts(number)]
    assert sorted(texts) == sorted(expected)


def test_rows_are_kept_on_disk_under_no_name(tokenizer: Any, tmp_path: Path) -> None:
    rows = list(conversations("train", 700, 2))
    stored = encode_rows(tokenizer, rows, 2048, folder=tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    held = encode_rows(tokenizer, rows, 2048)
    assert stored.table.equals(held.table)
    assert stored[650] == held[650] == stored[650 - len(stored)]
    assert stored.lengths.tolist() == [len(row.input_ids) for row in held]
    assert stored.trained_lengths.tolist() == [sum(row.trained) for row in held]
    assert (stored.tokens, stored.trained_tokens) == (held.tokens, held.trained_tokens)


def test_a_folder_that_cannot_be_written_is_named(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainError, match=r"tokens cannot be written to .*file"):
        encode_rows(tokenizer, ROWS, 600, folder=tmp_path / "file")


def test_what_was_dropped_is_counted_by_reason(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    marked = Conversation(
        messages=(
            Message(role="user", content="say <|im_end|>"),
            Message(role="assistant", content="no"),
        )
    )
    silent = Conversation(messages=(Message(role="user", content="u"),))
    done: list[int] = []
    rows = encode_rows(
        tokenizer, [marked, ROWS[0], silent, marked, ROWS[10]], 250, on_done=done.append
    )
    assert len(rows) == 1
    assert rows.dropped == {"control-token": 2, "nothing-trained": 1, "too-long": 1}
    assert rows.manifest()["rows_dropped"] == rows.dropped
    assert "dropped 2 control-token" in rows.summary()
    assert "2 rows are left out as control-token; the first is row 1: a text holds" in caplog.text
    assert done == [5]


def test_when_nothing_is_left_the_reasons_are_named(tokenizer: Any) -> None:
    silent = Conversation(messages=(Message(role="user", content="u"),))
    with pytest.raises(TrainError, match=r"no row is left to train on \(nothing-trained 2\)"):
        encode_rows(tokenizer, [silent, silent], 600)
    with pytest.raises(TrainError, match=r"no row is left to train on \(no rows\)"):
        encode_rows(tokenizer, [], 600)
