"""LoRA fine-tuning with TRL's SFTTrainer on tokens and masks of our own making."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from train.base import BaseModel, load_weights
from train.batches import CheckedCollator, training_set
from train.config import TrainConfig
from train.errors import TrainError
from train.hardware import cpu_has_bfloat16
from train.leak import LEAK, leak
from train.loss import TrainedTokensTrainer
from train.tokens import EncodedRows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """Progress after an optimizer step.

    `loss` is the mean over the step's trained tokens, `tokens` counts all tokens read so far.
    """

    step: int
    steps: int
    loss: float
    tokens: int


def load_for_training(base: BaseModel, config: TrainConfig) -> PeftModel:
    """The base model with a fresh adapter on its linear layers.

    The frozen weights are in bfloat16 where the hardware computes in it; the adapter is in float32
    and computes in bfloat16 there too.

    Raises:
        TrainError: the model cannot be found or loaded.
    """
    dtype = torch.bfloat16 if _computes_in_bfloat16() else torch.float32
    model = load_weights(base, dtype)
    layers = model.config.num_hidden_layers
    torch.manual_seed(config.seed)
    adapter = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=_linear_names(model),
        layers_to_transform=list(range(int(config.lora_skip_share * layers), layers)),
        task_type="CAUSAL_LM",
    )
    peft_model = get_peft_model(model, adapter)
    assert isinstance(peft_model, PeftModel)
    # PEFT writes down the folder that the base was loaded from: a cache that others do not have.
    adapter.base_model_name_or_path = config.base
    return peft_model


def _computes_in_bfloat16() -> bool:
    return torch.cuda.is_available() or cpu_has_bfloat16()


def _linear_names(model: Any) -> list[str]:
    """Names of the linear layers inside the blocks: q_proj, k_proj, … (not the output head)."""
    head = model.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and module is not head
        }
    )


def train(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: EncodedRows,
    config: TrainConfig,
    scratch: Path,
    on_step: Callable[[Step], None],
) -> list[Step]:
    """Train the adapter in place; returns every step. Nothing is kept in `scratch`.

    Rows that were encoded with packing are trained as packs.

    Raises:
        TrainError: the loss is not a number any more, or a batch would train other tokens than
            the rows' trained ones.
    """
    steps: list[Step] = []
    trainer = build_trainer(model, tokenizer, rows, config, scratch)
    trainer.add_callback(_Progress(trainer.args.max_steps, steps, on_step))
    trainer.train()
    return steps


def build_trainer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: EncodedRows,
    config: TrainConfig,
    scratch: Path,
) -> SFTTrainer:
    """TRL's trainer on the rows, each of its batches checked. Warns where packed rows leak."""
    sequences = training_set(rows, scratch)
    per_step = config.batch_size * config.accumulation
    total = config.max_steps or math.ceil(len(sequences) / per_step * config.epochs)
    if rows.packs:
        _warn_of_leaks(model)
    with _no_guess_about_attention():
        trainer = TrainedTokensTrainer(
            model=model,
            args=_arguments(config, total, scratch, packed=rows.packs is not None),
            train_dataset=sequences,
            processing_class=tokenizer,
        )
    if trainer.args.n_gpu > 1:
        raise TrainError(
            f"{trainer.args.n_gpu} GPUs are visible and one is used: set CUDA_VISIBLE_DEVICES=0"
        )
    trainer.data_collator = CheckedCollator(trainer.data_collator, rows)
    # The CLI shows the progress; Trainer's own printing callback would repeat it.
    trainer.callback_handler.callbacks = [
        callback
        for callback in trainer.callback_handler.callbacks
        if type(callback).__name__ != "PrinterCallback"
    ]
    return trainer


def _arguments(config: TrainConfig, total: int, scratch: Path, *, packed: bool) -> SFTConfig:
    return SFTConfig(
        output_dir=str(scratch),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        num_train_epochs=config.epochs,
        max_steps=total,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=max(1, round(total * config.warmup_share)),
        optim=config.optimizer,
        adam_beta2=config.adam_beta2,
        weight_decay=0.0,
        max_grad_norm=1.0,
        max_length=None,
        gradient_checkpointing=False,
        loss_type="nll",
        bf16=_computes_in_bfloat16(),
        logging_steps=1,
        # By default the trainer logs 0 for a loss that is not a number, and trains on.
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        dataset_kwargs={"skip_prepare_dataset": True},
        # The collator checks each batch by the numbers of its rows, which no model takes.
        remove_unused_columns=False,
        # Packs are one sequence a batch, with positions that start again at each row and no mask:
        # that is what transformers' attention tells the rows apart by.
        padding_free=packed,
        train_sampling_strategy=(
            "group_by_length" if config.batch_size > 1 and not packed else "random"
        ),
    )


def _warn_of_leaks(model: PeftModel) -> None:
    """Measure whether the rows of a pack see each other, and say so loudly."""
    measured = leak(model)
    if not measured <= LEAK:  # NaN, too
        log.warning(
            "PACKED ROWS LEAK: with attention %r and this model a row of a pack sees the rows "
            "before it (its logits move by %.0f %% of their spread). Set packing: false, or take "
            "a base model whose attention keeps them apart (sdpa does)",
            model.config._attn_implementation,
            100 * measured,
        )


@contextmanager
def _no_guess_about_attention() -> Iterator[None]:
    """Without TRL's warning that packing may leak without flash attention: `leak` measures it."""
    logger = logging.getLogger("trl.trainer.sft_trainer")

    def wanted(record: logging.LogRecord) -> bool:
        return "padding-free training" not in record.getMessage().lower()

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


class _Progress(TrainerCallback):
    """Hands every step on, and stops a run whose loss has blown up."""

    def __init__(self, total: int, steps: list[Step], on_step: Callable[[Step], None]) -> None:
        self.total = total
        self.steps = steps
        self.on_step = on_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Called by the trainer after each step (`logging_steps=1`)."""
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainError(
                f"the loss is {loss} at step {state.global_step}: lower learning_rate "
                f"(now {args.learning_rate}) and train again"
            )
        step = Step(state.global_step, self.total, loss, int(logs["num_tokens"]))
        self.steps.append(step)
        self.on_step(step)
